package compute

import "github.com/headwater-cloud/headwater/cascade"

// ServerResumer is what finds the verbs that wait on servers.
func ServerResumer(s *Service) cascade.Resumer { return serverMaker{s} }
