package image

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/headwater-cloud/headwater/cascade/image"
	"github.com/headwater-cloud/headwater/top/auth"
	"github.com/headwater-cloud/headwater/top/wire"
)

// upload handles PUT /v2/images/{id}/file: the bytes stream through to the home site.
func (h *Handler) upload(c echo.Context) error {
	r := c.Request()
	if kind, _, _ := cut(r.Header.Get("Content-Type")); kind != "application/octet-stream" {
		return unsupported(c)
	}
	who := auth.From(c)
	row, err := h.service.Find(r.Context(), who.Caller(), c.Param("image"))
	if err != nil {
		return err
	}
	if err := who.Require("update_image_data", ""); err != nil {
		return err
	}
	if err := h.service.Upload(r.Context(), who.Caller(), row.ID, r.Body, r.ContentLength); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

// download handles GET /v2/images/{id}/file, and one range of it.
func (h *Handler) download(c echo.Context) error {
	ctx := c.Request().Context()
	who := auth.From(c)
	if err := who.Require("get_image_data", ""); err != nil {
		return err
	}
	r, err := h.service.Find(ctx, who.Caller(), c.Param("image"))
	if err != nil {
		return err
	}
	var spec image.Spec
	if err := r.Decode(&spec); err != nil {
		return err
	}
	if r.Status == image.Queued || r.Status == image.Saving {
		return c.NoContent(http.StatusNoContent) // as Glance: there are no bytes yet
	}
	from, to, partial, err := byteRange(c.Request().Header.Get("Range"), spec.Size)
	if err != nil {
		return c.NoContent(http.StatusRequestedRangeNotSatisfiable)
	}
	data, size, err := h.service.Download(ctx, who.Caller(), r.ID, from)
	if err != nil {
		return err
	}
	defer data.Close() //nolint:errcheck // a reader's; what was read is what counts
	head := c.Response().Header()
	head.Set("Content-Type", "application/octet-stream")
	status, body := http.StatusOK, io.Reader(data)
	if partial {
		status, size, body = http.StatusPartialContent, to-from+1, io.LimitReader(data, to-from+1)
		head.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to, *spec.Size))
	} else if spec.Checksum != "" {
		head.Set("Content-MD5", spec.Checksum)
	}
	if size >= 0 {
		head.Set("Content-Length", strconv.FormatInt(size, 10))
	}
	c.Response().WriteHeader(status)
	n, err := io.Copy(c.Response(), body)
	if err != nil || size >= 0 && n != size {
		panic(http.ErrAbortHandler) // the answer has begun: only a cut connection tells the client that it is short
	}
	return nil
}

// byteRange reads one range of a known size; several at once, and none, mean the whole.
func byteRange(header string, size *int64) (from, to int64, partial bool, err error) {
	spec, ok := strings.CutPrefix(header, "bytes=")
	if !ok || size == nil || strings.Contains(spec, ",") {
		return 0, 0, false, nil
	}
	first, last, ok := strings.Cut(spec, "-")
	if !ok {
		return 0, 0, false, errRange
	}
	to = *size - 1
	if *size == 0 {
		return 0, 0, false, errRange
	}
	if first == "" {
		n, err := strconv.ParseInt(last, 10, 64)
		if err != nil || n <= 0 {
			return 0, 0, false, errRange
		}
		return max(*size-n, 0), to, true, nil
	}
	if from, err = strconv.ParseInt(first, 10, 64); err != nil || from < 0 || from >= *size {
		return 0, 0, false, errRange
	}
	if last != "" {
		n, err := strconv.ParseInt(last, 10, 64)
		if err != nil || n < from {
			return 0, 0, false, errRange
		}
		to = min(to, n)
	}
	return from, to, true, nil
}

var errRange = wire.BadRequest("Range not satisfiable.")
