package compute

import (
	"context"
	"crypto/md5" //nolint:gosec // the fingerprint's format, not a protection
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // the fingerprint's format, not a protection
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/cascade/quota"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// KeypairSpec is a keypair's public half.
type KeypairSpec struct {
	PublicKey   string `json:"public_key"`
	Fingerprint string `json:"fingerprint"`
	Type        string `json:"type"` // ssh or x509
}

// Keypair is a keypair of a user. The row belongs to no project; for each
// project that uses it there is a hidden copy (ParentID), since at a site a key
// belongs to the account that stands for the project.
type Keypair struct {
	*index.Resource
	Spec KeypairSpec
}

func decodeKeypair(r *index.Resource) (*Keypair, error) {
	k := &Keypair{Resource: r}
	return k, r.Decode(&k.Spec)
}

// Keypair returns a user's keypair by name.
func (s *Service) Keypair(ctx context.Context, user, name string) (*Keypair, error) {
	rows, err := s.core.Index.List(ctx, index.Query{Kind: sites.Keypair, In: map[index.Field][]string{
		index.ByUser: {user}, index.ByName: {name}, index.ByParent: {""},
	}, Limit: 1})
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, fault.New(fault.NotFound, "cascade/compute.Keypair", "Keypair %s not found for user %s", name, user)
	}
	return decodeKeypair(rows[0])
}

// Keypairs lists a user's keypairs by name, after the one named marker.
func (s *Service) Keypairs(ctx context.Context, user, marker string, limit int) ([]*Keypair, error) {
	q := index.Query{
		Kind: sites.Keypair, Limit: limit, Sort: []index.Sort{{Field: index.ByName}},
		In: map[index.Field][]string{index.ByUser: {user}, index.ByParent: {""}},
	}
	if marker != "" {
		last, err := s.Keypair(ctx, user, marker)
		if fault.Is(err, fault.NotFound) {
			return nil, fault.New(fault.BadRequest, "cascade/compute.Keypairs", "Marker %s could not be found.", marker)
		}
		if err != nil {
			return nil, err
		}
		q.Marker = last.ID
	}
	rows, err := s.core.Index.List(ctx, q)
	if err != nil {
		return nil, err
	}
	out := make([]*Keypair, len(rows))
	for i, r := range rows {
		if out[i], err = decodeKeypair(r); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// CreateKeypair records a keypair of the user. Without a public half Top makes
// the pair, and returns the private half, which it does not keep.
func (s *Service) CreateKeypair(ctx context.Context, caller sites.Caller, user, name, kind, publicKey string) (*Keypair, ident.Secret, error) {
	k := &Keypair{Resource: index.New(sites.Keypair, caller, name), Spec: KeypairSpec{PublicKey: publicKey, Type: kind}}
	k.ProjectID, k.UserID, k.State = "", user, index.Live
	secret := ident.Secret("")
	if publicKey == "" {
		if kind != "ssh" {
			return nil, "", badRequest("Top makes keypairs of type ssh only: import the certificate of a keypair of type %s.", kind)
		}
		var err error
		if k.Spec.PublicKey, secret, err = newKey(); err != nil {
			return nil, "", err
		}
	}
	var err error
	if k.Spec.Fingerprint, err = fingerprint(kind, k.Spec.PublicKey); err != nil {
		return nil, "", badRequest("Keypair data is invalid: %v", err)
	}
	if err := k.Encode(&k.Spec); err != nil {
		return nil, "", err
	}
	err = s.core.Commit(ctx, caller, "keypair.create", func(tx *cascade.Tx) error {
		all, err := s.Keypairs(ctx, user, "", 0)
		if err != nil {
			return err
		}
		for _, other := range all {
			if other.Name == name {
				return fault.New(fault.Conflict, "cascade/compute.CreateKeypair", "Key pair '%s' already exists.", name)
			}
		}
		if limit, _ := quota.Default("key_pairs"); int64(len(all)) >= limit {
			return fault.New(fault.OverQuota, "cascade/compute.CreateKeypair", "Quota exceeded, too many key pairs.")
		}
		return tx.Insert(k.Resource)
	})
	return k, secret, err
}

// DeleteKeypair ends a user's keypair and, at every site, what stands for it. Servers keep their keys.
func (s *Service) DeleteKeypair(ctx context.Context, caller sites.Caller, user, name string) error {
	k, err := s.Keypair(ctx, user, name)
	if err != nil {
		return err
	}
	return s.core.Commit(ctx, caller, "keypair.delete", func(tx *cascade.Tx) error {
		copies, err := s.core.Index.Children(tx.Tx, k.ID, string(sites.Keypair))
		if err != nil {
			return err
		}
		row, err := tx.Load(k.ID)
		if err != nil {
			return err
		}
		for _, r := range append(copies, row) {
			if err := tx.Delete(r); err != nil {
				return err
			}
		}
		return nil
	})
}

// keyFor returns the copy of a keypair that stands for it in the project of a server, recording it on first use.
func (s *Service) keyFor(tx *cascade.Tx, k *index.Resource, project string) (*index.Resource, error) {
	copies, err := s.core.Index.Children(tx.Tx, k.ID, string(sites.Keypair))
	if err != nil {
		return nil, err
	}
	for _, r := range copies {
		if r.ProjectID == project && r.State == index.Live {
			return r, nil
		}
	}
	r := &index.Resource{ID: ident.NewTopID(), Kind: sites.Keypair, ProjectID: project, UserID: k.UserID, Name: k.Name, ParentID: k.ID, State: index.Live, Spec: k.Spec}
	return r, s.core.Index.Insert(tx.Tx, r)
}

// keyBits is the size of the RSA keys that Top makes: Nova's (nova/crypto.py, generate_key).
const keyBits = 2048

func newKey() (publicKey string, private ident.Secret, err error) {
	key, err := rsa.GenerateKey(rand.Reader, keyBits)
	if err != nil {
		return "", "", fmt.Errorf("make an RSA key: %w", err)
	}
	pub, err := ssh.NewPublicKey(&key.PublicKey)
	if err != nil {
		return "", "", fmt.Errorf("encode the public key: %w", err)
	}
	block := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(pub))) + " Generated-by-Headwater", ident.Secret(block), nil
}

// fingerprint is Nova's: MD5 of an ssh key's blob, SHA-1 of a certificate, in hexadecimal pairs.
func fingerprint(kind, text string) (string, error) {
	if kind == "x509" {
		block, _ := pem.Decode([]byte(text))
		if block == nil {
			return "", fmt.Errorf("failed to generate X509 fingerprint")
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return "", fmt.Errorf("failed to generate X509 fingerprint: %w", err)
		}
		sum := sha1.Sum(block.Bytes) //nolint:gosec // see above
		return pairs(sum[:]), nil
	}
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(text))
	if err != nil {
		return "", fmt.Errorf("failed to generate fingerprint")
	}
	sum := md5.Sum(key.Marshal()) //nolint:gosec // see above
	return pairs(sum[:]), nil
}

func pairs(sum []byte) string {
	out := make([]string, len(sum))
	for i, b := range sum {
		out[i] = hex.EncodeToString([]byte{b})
	}
	return strings.Join(out, ":")
}

// keypairMaker pushes the public half of a copy to a site, under the name hw-ID.
type keypairMaker struct{ *Service }

// Needs returns nothing: a key stands alone.
func (keypairMaker) Needs(context.Context, *index.Resource, ident.SiteID) ([]ident.TopID, error) {
	return nil, nil
}

// Body returns the import of the public half; its name is the marker.
func (keypairMaker) Body(_ context.Context, r *index.Resource, _ cascade.At) (sites.Body, error) {
	k, err := decodeKeypair(r)
	if err != nil {
		return nil, err
	}
	return sites.Body{"public_key": k.Spec.PublicKey, "type": k.Spec.Type}, nil
}
