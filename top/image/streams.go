package image

import (
	"net/http"
	"strings"
)

// Streams tells the requests whose body is an image's bytes: any number of them, for as long as it takes. All others are JSON.
func Streams(r *http.Request) bool {
	return r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/file")
}
