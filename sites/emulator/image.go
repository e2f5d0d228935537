package emulator

import (
	"crypto/md5"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

type imageState struct {
	images  *table[*image]
	deleted map[string]bool // ids that were used once
	bytes   int64           // held by all images and stages
}

type member struct {
	project, status  string
	created, updated time.Time
}

type image struct {
	row
	name, status, visibility, disk, container string
	data, staged                              []byte
	size                                      int64 // -1 before there is data
	checksum, hash                            string
	protected, hidden                         bool
	minRAM, minDisk                           int
	created, updated                          time.Time
	tags                                      []string
	props                                     map[string]string
	members                                   []*member
	nilName                                   bool
	charged                                   int64 // bytes that count against the cap; shared ones do not
}

func (c *Cloud) seedImage() {
	c.image.images, c.image.deleted = newTable[*image](), map[string]bool{}
}

func (c *Cloud) imageRoutes() {
	h := func(pattern string, a access, f handler) { c.handle(imageSvc, pattern, a, f) }
	h("GET /{$}", open, c.imageVersions(http.StatusMultipleChoices))
	h("GET ", open, c.imageVersions(http.StatusMultipleChoices))
	h("GET /versions", open, c.imageVersions(http.StatusOK))
	h("GET /v2", needsToken, func(q *request) (*reply, error) {
		return (&reply{status: http.StatusFound}).set("Location", q.url("/v2/")), nil
	})
	h("GET /v2/images", needsToken, c.listImages)
	h("POST /v2/images", needsToken, c.createImage)
	h("GET /v2/images/{id}", needsToken, c.showImage)
	h("PATCH /v2/images/{id}", needsToken, c.patchImage)
	h("DELETE /v2/images/{id}", needsToken, c.deleteImage)
	h("PUT /v2/images/{id}/file", unlocked, c.uploadImage)
	h("GET /v2/images/{id}/file", needsToken, c.downloadImage)
	h("PUT /v2/images/{id}/stage", unlocked, c.uploadImage)
	h("POST /v2/images/{id}/import", needsToken, c.importImage)
	h("GET /v2/images/{id}/tasks", needsToken, func(q *request) (*reply, error) { return ok(object{{"tasks", []object{}}}) })
	h("POST /v2/images/{id}/actions/deactivate", needsToken, c.imageAction("active", "deactivated"))
	h("POST /v2/images/{id}/actions/reactivate", needsToken, c.imageAction("deactivated", "active"))
	h("PUT /v2/images/{id}/tags/{tag}", needsToken, c.tagImage)
	h("DELETE /v2/images/{id}/tags/{tag}", needsToken, c.untagImage)
	h("GET /v2/images/{id}/members", needsToken, c.listMembers)
	h("POST /v2/images/{id}/members", needsToken, c.addMember)
	h("GET /v2/images/{id}/members/{member}", needsToken, c.showMember)
	h("PUT /v2/images/{id}/members/{member}", needsToken, c.updateMember)
	h("DELETE /v2/images/{id}/members/{member}", needsToken, c.removeMember)
	h("GET /v2/info/import", needsToken, func(*request) (*reply, error) {
		return ok(object{{"import-methods", object{{"description", "Import methods available."}, {"type", "array"}, {"value", c.cfg.ImportMethods}}}})
	})
	h("GET /v2/info/stores", needsToken, func(*request) (*reply, error) {
		return ok(object{{"stores", []object{{{"id", "file"}, {"default", "true"}}}}})
	})
	h("GET /v2/schemas/{name}", needsToken, showSchema)
	h("GET /v2/tasks", needsToken, func(q *request) (*reply, error) {
		if !q.admin {
			return nil, fail(403, "You are not authorized to complete tasks_api_access action.")
		}
		return ok(object{{"tasks", []object{}}, {"first", "/v2/tasks"}, {"schema", "/v2/schemas/tasks"}})
	})
	for _, m := range []string{"GET", "POST", "PUT", "PATCH", "DELETE"} {
		h(m+" /", needsToken, unknownPath)
	}
}

func (c *Cloud) imageVersions(code int) handler {
	return func(q *request) (*reply, error) {
		var out []object
		for i, id := range []string{"v2.15", "v2.13", "v2.12", "v2.11", "v2.10", "v2.9", "v2.8", "v2.7", "v2.6", "v2.5", "v2.4", "v2.3", "v2.2", "v2.1", "v2.0"} {
			state := "SUPPORTED"
			if i == 0 {
				state = "CURRENT"
			}
			out = append(out, object{{"id", id}, {"status", state}, {"links", []object{{{"rel", "self"}, {"href", q.url("/v2/")}}}}})
		}
		return status(code, object{{"versions", out}})
	}
}

func (c *Cloud) imageView(i *image) object {
	var v object
	for _, k := range slices.Sorted(maps.Keys(i.props)) {
		v = append(v, kv{k, i.props[k]})
	}
	name := any(i.name)
	if i.nilName {
		name = nil
	}
	size := any(i.size)
	if i.size < 0 {
		size = nil
	}
	virtual := size
	if i.disk != "raw" || i.status == "queued" {
		virtual = nil
	}
	tags := i.tags
	if tags == nil {
		tags = []string{}
	}
	algo := any(nil)
	if i.hash != "" {
		algo = "sha512"
	}
	v = append(v, kv{"name", name}, kv{"disk_format", orNil(i.disk)}, kv{"container_format", orNil(i.container)}, kv{"visibility", i.visibility}, kv{"size", size},
		kv{"virtual_size", virtual}, kv{"status", i.status}, kv{"checksum", orNil(i.checksum)}, kv{"protected", i.protected}, kv{"min_ram", i.minRAM}, kv{"min_disk", i.minDisk},
		kv{"owner", i.Project}, kv{"os_hidden", i.hidden}, kv{"os_hash_algo", algo}, kv{"os_hash_value", orNil(i.hash)}, kv{"id", i.ID}, kv{"created_at", stamp(i.created, zulu)},
		kv{"updated_at", stamp(i.updated, zulu)}, kv{"tags", tags}, kv{"self", "/v2/images/" + i.ID}, kv{"file", "/v2/images/" + i.ID + "/file"}, kv{"schema", "/v2/schemas/image"})
	if i.status != "queued" && i.status != "uploading" {
		v = append(v, kv{"stores", "file"})
	}
	return v
}

// imageSeen reports whether the project may see the image.
func (c *Cloud) imageSeen(i *image, projectID string, admin bool) bool {
	if admin || i.Project == projectID || i.visibility == "public" || i.visibility == "community" {
		return true
	}
	return i.visibility == "shared" && slices.ContainsFunc(i.members, func(m *member) bool { return m.project == projectID })
}

func (c *Cloud) imageAt(q *request) (*image, error) {
	if i, found := c.image.images.get(q.path("id")); found && c.imageSeen(i, q.project, q.admin) {
		return i, nil
	}
	return nil, fail(404, "No image found with ID "+q.path("id"))
}

// ownImage is imageAt for changes: 403 for an image of somebody else.
func (c *Cloud) ownImage(q *request, action string) (*image, error) {
	i, err := c.imageAt(q)
	if err == nil && !q.admin && i.Project != q.project {
		return nil, fail(403, "You are not authorized to complete "+action+" action.")
	}
	return i, err
}

var imageID = regexp.MustCompile(`^[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$`)

var readOnlyImage = []string{"status", "checksum", "size", "virtual_size", "created_at", "updated_at", "self", "file", "schema", "os_hash_algo", "os_hash_value", "direct_url", "locations", "stores"}

func (c *Cloud) createImage(q *request) (*reply, error) {
	d := q.body
	id := d.str("id")
	if d.has("id") && !imageID.MatchString(id) {
		return nil, fail(400, "Provided object does not match schema 'image': '"+toText(d["id"])+"' does not match '^([0-9a-fA-F]){8}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){12}$'")
	}
	if id == "" {
		id = newID()
	}
	if _, used := c.image.images.get(id); used || c.image.deleted[id] {
		return nil, fail(409, "Image ID "+id+" already exists!")
	}
	i := &image{row: row{ID: id, Project: q.project}, status: "queued", visibility: "shared", size: -1, created: c.now(), updated: c.now(), nilName: !d.has("name")}
	for _, k := range slices.Sorted(maps.Keys(d)) {
		if k == "id" {
			continue
		}
		if slices.Contains(readOnlyImage, k) {
			return nil, fail(403, "Attribute '"+k+"' is read-only.")
		}
		if err := i.set(q, k, d[k]); err != nil {
			return nil, err
		}
	}
	c.image.images.add(i)
	rep := &reply{status: http.StatusCreated, body: c.imageView(i)}
	return rep.set("Location", q.url("/v2/images/"+i.ID)).set("OpenStack-image-import-methods", strings.Join(c.cfg.ImportMethods, ",")), nil
}

func schemaError(text string) error {
	return fail(400, "Provided object does not match schema 'image': "+text)
}

// set gives one property a value from a client.
func (i *image) set(q *request, k string, v any) error {
	text, isText := v.(string)
	switch k {
	case "name":
		if !isText && v != nil || len(text) > 255 {
			return schemaError(toText(v) + " is not of type 'null', 'string'")
		}
		i.name, i.nilName = text, v == nil
	case "visibility":
		if !slices.Contains([]string{"public", "private", "shared", "community"}, text) {
			return schemaError("'" + toText(v) + "' is not one of ['community', 'public', 'private', 'shared']")
		}
		if text == "public" && !q.admin {
			return fail(403, "You are not authorized to complete publicize_image action.")
		}
		i.visibility = text
	case "disk_format":
		if v != nil && !slices.Contains([]string{"ami", "ari", "aki", "vhd", "vhdx", "vmdk", "raw", "qcow2", "vdi", "iso", "ploop"}, text) {
			return schemaError("'" + toText(v) + "' is not one of [None, 'ami', 'ari', 'aki', 'vhd', 'vhdx', 'vmdk', 'raw', 'qcow2', 'vdi', 'iso', 'ploop']")
		}
		i.disk = text
	case "container_format":
		if v != nil && !slices.Contains([]string{"ami", "ari", "aki", "bare", "ovf", "ova", "docker", "compressed"}, text) {
			return schemaError("'" + toText(v) + "' is not one of [None, 'ami', 'ari', 'aki', 'bare', 'ovf', 'ova', 'docker', 'compressed']")
		}
		i.container = text
	case "min_ram", "min_disk":
		n, isNumber := toInt(v)
		if !isNumber || n < 0 {
			return schemaError(toText(v) + " is not of type 'integer'")
		}
		if k == "min_ram" {
			i.minRAM = n
		} else {
			i.minDisk = n
		}
	case "protected", "os_hidden":
		b, isBool := v.(bool)
		if !isBool {
			return schemaError(toText(v) + " is not of type 'boolean'")
		}
		if k == "protected" {
			i.protected = b
		} else {
			i.hidden = b
		}
	case "tags":
		list, _ := v.([]any)
		i.tags = anyStrings(list)
	case "owner":
		if !q.admin && text != i.Project {
			return fail(403, "You are not permitted to create images owned by '"+text+"'.")
		}
		if text != "" {
			i.Project = text
		}
	default:
		if !isText && v != nil {
			return schemaError(toText(v) + " is not of type 'string'")
		}
		if i.props == nil {
			i.props = map[string]string{}
		}
		i.props[k] = text
	}
	return nil
}

func (c *Cloud) showImage(q *request) (*reply, error) {
	i, err := c.imageAt(q)
	if err != nil {
		return nil, err
	}
	return ok(c.imageView(i))
}

const patchType = "application/openstack-images-v2."

func wrongType(q *request) error {
	return fail(415, "The request media type "+q.http.Header.Get("Content-Type")+" is not supported by this server.")
}

// patchImage handles PATCH /v2/images/{id}: all changes or none.
func (c *Cloud) patchImage(q *request) (*reply, error) {
	if !strings.HasPrefix(q.http.Header.Get("Content-Type"), patchType) {
		return nil, wrongType(q)
	}
	i, err := c.ownImage(q, "modify_image")
	if err != nil {
		return nil, err
	}
	var ops []struct {
		Op, Path string
		Value    any
	}
	if err := json.NewDecoder(q.http.Body).Decode(&ops); err != nil {
		return nil, fail(400, "Request body must be a JSON array of operation objects.")
	}
	next := *i
	next.props, next.tags = maps.Clone(i.props), slices.Clone(i.tags)
	for _, op := range ops {
		name := strings.ReplaceAll(strings.ReplaceAll(strings.TrimPrefix(op.Path, "/"), "~1", "/"), "~0", "~")
		if slices.Contains(readOnlyImage, name) || name == "id" {
			return nil, fail(403, "Attribute '"+name+"' is read-only.")
		}
		if err := next.patch(q, op.Op, name, op.Value); err != nil {
			return nil, err
		}
	}
	next.updated = c.now()
	if next.Project != i.Project {
		c.image.images.give(i, next.Project)
	}
	*i = next
	return ok(c.imageView(i))
}

var baseImage = []string{"name", "visibility", "disk_format", "container_format", "min_ram", "min_disk", "protected", "os_hidden", "tags", "owner"}

func (i *image) patch(q *request, op, name string, value any) error {
	_, isProp := i.props[name]
	isBase := slices.Contains(baseImage, name)
	switch op {
	case "add":
		return i.set(q, name, value)
	case "replace":
		if !isProp && !isBase {
			return fail(409, "Property "+name+" does not exist.")
		}
		if (name == "disk_format" || name == "container_format") && i.status != "queued" {
			return fail(403, "Attribute "+name+" can be only replaced for a queued image.")
		}
		return i.set(q, name, value)
	case "remove":
		if isBase {
			return fail(403, "Property '"+name+"' may not be removed.")
		}
		if !isProp {
			return fail(409, "Property "+name+" does not exist.")
		}
		delete(i.props, name)
		return nil
	}
	return fail(400, "Invalid operation: `"+op+"`. It must be one of the following: add, replace, remove.")
}

func (c *Cloud) deleteImage(q *request) (*reply, error) {
	if _, err := c.imageAt(q); err != nil {
		return nil, fail(404, "Failed to find image "+q.path("id")+" to delete")
	}
	i, err := c.ownImage(q, "delete_image")
	if err != nil {
		return nil, err
	}
	if i.protected {
		return nil, fail(403, "Image "+i.ID+" is protected and cannot be deleted.")
	}
	c.dropImage(i)
	return noContent()
}

func (c *Cloud) dropImage(i *image) {
	c.image.images.remove(i)
	c.image.deleted[i.ID] = true
	c.image.bytes -= i.charged
}

// uploadImage handles PUT .../file and PUT .../stage. The body is read without the lock.
func (c *Cloud) uploadImage(q *request) (*reply, error) {
	stage := strings.HasSuffix(q.http.URL.Path, "/stage")
	if ct, _, _ := strings.Cut(q.http.Header.Get("Content-Type"), ";"); ct != "application/octet-stream" {
		return nil, wrongType(q)
	}
	to := "saving"
	if stage {
		to = "uploading"
	}
	i, err := c.startUpload(q, to)
	if err != nil {
		return nil, err
	}
	data, err := c.receive(q)
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, there := c.image.images.get(i.ID); !there {
		return nil, fail(410, "Image "+i.ID+" could not be found after upload. The image may have been deleted during the upload.")
	}
	if err != nil {
		i.status = "queued"
		return nil, err
	}
	if c.image.bytes+int64(len(data)) > c.cfg.Capacity.ImageBytes {
		i.status = "queued"
		return nil, fail(http.StatusRequestEntityTooLarge, "Image storage media is full: There is not enough disk space on the image storage media.")
	}
	i.charged = int64(len(data))
	c.image.bytes += i.charged
	if stage {
		i.staged, i.size, i.updated = data, int64(len(data)), c.now()
	} else {
		c.setImageData(i, data)
	}
	return noContent()
}

func (c *Cloud) startUpload(q *request, to string) (*image, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i, err := c.ownImage(q, "upload_image")
	if err != nil {
		return nil, err
	}
	if i.status != "queued" {
		return nil, fail(409, "Image status transition from "+i.status+" to "+to+" is not allowed")
	}
	if to == "saving" && (i.disk == "" || i.container == "") {
		return nil, fail(400, "Properties disk_format, container_format must be set prior to saving data.")
	}
	i.status = to
	return i, nil
}

// receive reads the body up to the cap; a client that goes away in the middle leaves the image queued, to be tried again.
func (c *Cloud) receive(q *request) ([]byte, error) {
	limit := c.cfg.Capacity.ImageBytes
	data, err := io.ReadAll(io.LimitReader(q.http.Body, limit+1))
	if err != nil {
		return nil, fail(400, "The upload ended early.")
	}
	if int64(len(data)) > limit {
		return nil, fail(http.StatusRequestEntityTooLarge, "Denying attempt to upload image larger than "+strconv.FormatInt(limit, 10)+" bytes.")
	}
	return data, nil
}

// setImageData makes an image active with the given bytes, which the caller has accounted for.
func (c *Cloud) setImageData(i *image, data []byte) {
	sum, hash := md5.Sum(data), sha512.Sum512(data)
	i.data, i.size, i.status, i.updated = data, int64(len(data)), "active", c.now()
	i.checksum, i.hash = hex.EncodeToString(sum[:]), hex.EncodeToString(hash[:])
}
