package main

import "context"

func measureMemory(ctx context.Context, b *bench) error { return nil }
