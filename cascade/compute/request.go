package compute

import (
	"encoding/json"

	"github.com/headwater-cloud/headwater/sites"
)

// CreateRequest is a request for servers, decoded but with every reference as the tenant wrote it.
type CreateRequest struct {
	Name        string
	Description *string
	Image       string // "" when a block device boots
	Flavor      string
	Blocks      []BlockRequest
	// NetworkMode is "list" (Networks counts), "auto", "none", or "" when the tenant named nothing.
	NetworkMode  string
	Networks     []NetworkRequest
	Groups       []string // security groups by name or id; nil is the project's default
	KeyName      string
	UserData     string
	ConfigDrive  bool
	Metadata     map[string]string
	Tags         []string
	Zone         string
	Hints        sites.Body
	Min, Max     int
	Personality  []File
	AdminPass    string
	DiskConfig   string
	Hostname     string
	TrustedCerts []string
	AccessIPv4   string
	AccessIPv6   string
	Extra        map[string]json.RawMessage
}

// NetworkRequest is one entry of "networks".
type NetworkRequest struct {
	Network string
	Port    string
	FixedIP string
	Tag     string
}

// BlockRequest is one entry of "block_device_mapping_v2".
type BlockRequest struct {
	Source      string // image, volume, snapshot, blank
	Destination string // local, volume; "" is local for image and blank, else volume
	ID          string
	BootIndex   *int
	SizeGiB     int64
	Type        string // of the volume
	Delete      bool
	Device      string
	Format      string
	DeviceType  string
	Bus         string
	Tag         string
}
