package sitetest

import (
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // Glance's checksum is MD5
	"crypto/rand"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// uploaded makes an image with n random bytes.
func (s *suite) uploaded(t *testing.T, n int) (sites.Object, []byte) {
	t.Helper()
	data := make([]byte, n)
	_, _ = rand.Read(data)
	made, _ := s.create(t, sites.Image, sites.Body{"name": s.prefix, "disk_format": "raw", "container_format": "bare"})
	if err := s.member.Upload(t.Context(), made.ID, bytes.NewReader(data), int64(n)); err != nil {
		t.Fatalf("upload: %v", err)
	}
	return s.until(t, sites.Image, made.ID, "active"), data
}

// imageBytes sends bytes to the site and gets them back.
func (s *suite) imageBytes(t *testing.T) {
	t.Parallel()
	const size = 3<<20 + 17
	image, data := s.uploaded(t, size)
	sum, sum512 := md5.Sum(data), sha512.Sum512(data) //nolint:gosec // Glance's checksum is MD5
	if got := image.Text("checksum"); got != hex.EncodeToString(sum[:]) {
		t.Errorf("checksum %s, want %x", got, sum)
	}
	if algo, got := image.Text("os_hash_algo"), image.Text("os_hash_value"); algo == "sha512" && got != hex.EncodeToString(sum512[:]) {
		t.Errorf("sha512 %s, want %x", got, sum512)
	}
	if n, ok := image.Body["size"].(json.Number); !ok || n.String() != fmt.Sprint(size) {
		t.Errorf("size %v, want %d as a json.Number", image.Body["size"], size)
	}
	for _, offset := range []int64{0, 1, 1 << 20, size - 1} {
		body, n, err := s.member.Download(t.Context(), image.ID, offset)
		if err != nil {
			t.Fatalf("download from %d: %v", offset, err)
		}
		got, err := io.ReadAll(body)
		if err := body.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if err != nil || !bytes.Equal(got, data[offset:]) {
			t.Errorf("download from %d: %d bytes, error %v; want the %d bytes sent", offset, len(got), err, size-offset)
		}
		if n != -1 && n != size-offset {
			t.Errorf("download from %d says %d bytes, want %d or -1", offset, n, size-offset)
		}
	}
	err := s.member.Upload(t.Context(), image.ID, bytes.NewReader(data), size)
	want(t, "upload to an active image", err, fault.Conflict)
	queued, _ := s.create(t, sites.Image, sites.Body{"name": s.prefix, "disk_format": "raw", "container_format": "bare"})
	if err := s.member.Upload(t.Context(), queued.ID, io.MultiReader(bytes.NewReader(data[:1000])), -1); err != nil {
		t.Errorf("upload of unknown length: %v", err)
	}
	if got := s.until(t, sites.Image, queued.ID, "active"); fmt.Sprint(got.Body["size"]) != "1000" {
		t.Errorf("size after an upload of unknown length: %v, want 1000", got.Body["size"])
	}
}

// flavor returns the smallest flavor that has a disk.
func (s *suite) flavor(t *testing.T) ident.BottomID {
	t.Helper()
	var best sites.FlavorInfo
	for _, f := range s.caps.Flavors {
		if f.Public && f.Disk >= 1 && (best.ID == "" || f.RAM < best.RAM) {
			best = f
		}
	}
	if best.ID == "" {
		t.Fatal("the site has no public flavor with a disk")
	}
	return best.ID
}

// server boots one, finds it, drives it and ends it.
func (s *suite) server(t *testing.T) {
	t.Parallel()
	s.without(t, sites.Server)
	image, _ := s.uploaded(t, 64<<10)
	network, _ := s.subnet(t)
	port, _ := s.create(t, sites.Port, sites.Body{"network_id": network})
	// Not "affinity": a resize goes to another host by default, which that policy would forbid.
	group, _ := s.create(t, sites.ServerGroup, sites.Body{"policy": "anti-affinity"})
	body := sites.Body{"name": s.prefix, "imageRef": string(image.ID), "flavorRef": string(s.flavor(t)), "metadata": map[string]any{"mine": "kept"},
		"networks": []any{map[string]any{"port": string(port.ID)}}, "os:scheduler_hints": map[string]any{"group": string(group.ID)}}
	made, marker := s.create(t, sites.Server, body)
	s.found(t, sites.Server, marker, made.ID)
	shown := s.until(t, sites.Server, made.ID, "ACTIVE")
	if id, ok := sites.MarkerOf(shown.Body); !ok || id != marker {
		t.Errorf("the shown server carries the marker %q, want %q", id, marker)
	}
	if meta, _ := shown.Body["metadata"].(map[string]any); meta["mine"] != "kept" {
		t.Errorf("metadata %v, want mine=kept", shown.Body["metadata"])
	}
	if len(body) != 6 || body["tags"] != nil {
		t.Errorf("Create changed the caller's body to %v", body)
	}
	got, err := s.member.Show(t.Context(), sites.ServerGroup, group.ID)
	if members, _ := got.Body["members"].([]any); err != nil || len(members) != 1 {
		t.Errorf("members of the group in the hint: %v, error %v; want the server", got.Body["members"], err)
	}
	s.drive(t, made.ID)
	s.attach(t, made.ID)
	s.resize(t, made.ID)
	s.snapshotImage(t, made.ID)
	s.serverChanges(t, made.ID, marker)
}

// act makes one call of a server's action.
func (s *suite) act(t *testing.T, id ident.BottomID, action sites.Body) sites.Reply {
	t.Helper()
	reply, err := s.member.Do(t.Context(), sites.Request{Service: sites.Compute, Method: http.MethodPost, Path: "servers/" + string(id) + "/action", Body: action})
	if err != nil {
		t.Fatalf("action %v: %v", action, err)
	}
	return reply
}

func (s *suite) drive(t *testing.T, id ident.BottomID) {
	t.Helper()
	s.act(t, id, sites.Body{"os-stop": nil})
	s.until(t, sites.Server, id, "SHUTOFF")
	_, err := s.member.Do(t.Context(), sites.Request{Service: sites.Compute, Method: http.MethodPost, Path: "servers/" + string(id) + "/action", Body: sites.Body{"pause": nil}})
	want(t, "pause a server that is shut off", err, fault.Conflict)
	s.act(t, id, sites.Body{"os-start": nil})
	s.until(t, sites.Server, id, "ACTIVE")
	s.act(t, id, sites.Body{"reboot": map[string]any{"type": "HARD"}})
	s.until(t, sites.Server, id, "ACTIVE")
	changed, err := s.member.Update(t.Context(), sites.Server, id, sites.Body{"name": s.prefix + "-new"})
	if err != nil || changed.Text("name") != s.prefix+"-new" {
		t.Errorf("rename: %q, error %v", changed.Text("name"), err)
	}
	reply := s.act(t, id, sites.Body{"os-getConsoleOutput": map[string]any{"length": 5}})
	if _, ok := reply.Body["output"].(string); !ok {
		t.Errorf("console output is %v", reply.Body)
	}
	interfaces, err := s.member.Do(t.Context(), sites.Request{Service: sites.Compute, Method: http.MethodGet, Path: "servers/" + string(id) + "/os-interface"})
	if list, _ := interfaces.Body["interfaceAttachments"].([]any); err != nil || len(list) != 1 {
		t.Errorf("interfaces %v, error %v; want one", interfaces.Body, err)
	}
}

// snapshotImage saves a server as an image that is found by the marker given as metadata.
func (s *suite) snapshotImage(t *testing.T, id ident.BottomID) {
	t.Helper()
	marker := s.marker(sites.Image)
	reply := s.act(t, id, sites.Body{"createImage": map[string]any{"name": s.prefix, "metadata": map[string]any{sites.ImageMarker: sites.MarkerText(marker)}}})
	image, _ := reply.Body["image_id"].(string)
	if image == "" {
		t.Fatalf("createImage answered %v, want an image_id", reply.Body)
	}
	t.Cleanup(func() { s.remove(t, sites.Image, ident.BottomID(image)) })
	s.found(t, sites.Image, marker, ident.BottomID(image))
	s.until(t, sites.Image, ident.BottomID(image), "active")
	s.until(t, sites.Server, id, "ACTIVE")
}

// serverChanges asserts that changes-since tells of a server's end.
func (s *suite) serverChanges(t *testing.T, id ident.BottomID, marker ident.TopID) {
	t.Helper()
	since := time.Now().Add(-s.caps.ClockSkew.Abs() - time.Minute).UTC().Format(time.RFC3339)
	q := sites.Query{Params: url.Values{"changes-since": {since}}}
	if n := with(list(t, s.member, sites.Server, q), id); n != 1 {
		t.Errorf("changes-since=%s tells of the server %d times, want once", since, n)
	}
	future := sites.Query{Params: url.Values{"changes-since": {time.Now().Add(time.Hour).UTC().Format(time.RFC3339)}}}
	if got := list(t, s.member, sites.Server, future); len(got) != 0 {
		t.Errorf("changes-since in an hour tells of %d servers, want none", len(got))
	}
	s.end(t, sites.Server, id, marker)
	ctx, cancel := context.WithTimeout(t.Context(), s.target.Wait)
	defer cancel()
	err := s.poll(ctx, func() (bool, error) {
		for _, o := range list(t, s.member, sites.Server, q) {
			if o.ID == id {
				return o.Text("status") == "DELETED", nil
			}
		}
		return false, nil
	})
	if err != nil {
		t.Errorf("changes-since to tell of the server's end: %v", err)
	}
}
