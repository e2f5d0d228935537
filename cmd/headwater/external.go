package main

import (
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/openstack"
	"github.com/headwater-cloud/headwater/top/auth"
)

// transport is what calls of the external Keystone go through; nil where nothing is said of its certificates.
func (x externalConfig) transport() (http.RoundTripper, error) {
	if x.CAFile == "" {
		return nil, nil //nolint:nilnil // the usual one
	}
	text, err := os.ReadFile(x.CAFile)
	if err != nil {
		return nil, fmt.Errorf("identity.external.ca_file: %w", err)
	}
	transport, err := openstack.NewTransport(sites.Credential{CACert: string(text)})
	if err != nil {
		return nil, fmt.Errorf("identity.external.ca_file %s: no certificate in PEM is in it", x.CAFile)
	}
	return transport, nil
}

// external makes the client of the Keystone that Top trusts instead of its own users.
func (t *top) external() (*auth.External, error) {
	x := t.cfg.Identity.External
	transport, err := x.transport()
	if err != nil {
		return nil, err
	}
	return auth.NewExternal(auth.ExternalConfig{
		AuthURL: x.AuthURL, Username: x.Username, Password: t.cfg.externalPassword, Project: x.Project, Domain: x.Domain,
		Roles: x.Roles, Transport: transport, Now: time.Now,
	})
}
