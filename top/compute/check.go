package compute

import (
	"encoding/base64"
	"net/netip"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/headwater-cloud/headwater/top/wire"
)

// checkAll returns the first error.
func checkAll(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// checkName is Nova's parameter type "name": 1 to 255 printable characters, no space at either end. nil is absent.
func checkName(key string, name *string) error {
	if name == nil {
		return nil
	}
	n := utf8.RuneCountInString(*name)
	switch {
	case n < 1 || strings.TrimSpace(*name) == "":
		return wire.BadRequest("Invalid input for field/attribute %s. Value: %s. '%s' is too short", key, *name, *name)
	case n > 255:
		return wire.BadRequest("Invalid input for field/attribute %s. Value: %s... is too long", key, string([]rune(*name)[:50]))
	case strings.TrimSpace(*name) != *name || strings.ContainsFunc(*name, func(r rune) bool { return !unicode.IsPrint(r) && r != ' ' && !unicode.Is(unicode.Zs, r) }):
		return wire.BadRequest("Invalid input for field/attribute %s. Value: %q. Can not start or end with whitespace, and must be printable.", key, *name)
	}
	return nil
}

func checkDescription(text *string) error {
	if text != nil && utf8.RuneCountInString(*text) > 255 {
		return wire.BadRequest("Invalid input for field/attribute description. It is too long (255 characters at most)")
	}
	return nil
}

var hostnameForm = regexp.MustCompile(`^[a-zA-Z0-9]+[a-zA-Z0-9-]*[a-zA-Z0-9]+$`)

func checkHostname(name *string) error {
	if name != nil && (len(*name) < 2 || len(*name) > 63 || !hostnameForm.MatchString(*name)) {
		return wire.BadRequest("Invalid input for field/attribute hostname. Value: %.100s. It does not match '%s'", *name, hostnameForm)
	}
	return nil
}

func checkDiskConfig(v *string) error {
	if v != nil && *v != "AUTO" && *v != "MANUAL" {
		return wire.Invalid("OS-DCF:diskConfig", *v)
	}
	return nil
}

// checkIP also writes an address of IPv6 in its canonical form (RFC 5952), in which Nova keeps and shows it.
func checkIP(key string, v *string, version int) error {
	if v == nil || *v == "" {
		return nil
	}
	ip, err := netip.ParseAddr(*v)
	if err != nil || ip.Is4() != (version == 4) {
		return wire.Invalid(key, *v)
	}
	*v = ip.String()
	return nil
}

var metadataKey = regexp.MustCompile(`^[a-zA-Z0-9-_:. ]{1,255}$`)

func checkMetadata(m map[string]string) error {
	for key, value := range m {
		if !metadataKey.MatchString(key) {
			return wire.BadRequest("Invalid input for field/attribute metadata. Value: %.100q. Keys have 1 to 255 of the characters a-z, A-Z, 0-9, -, _, :, . and space.", key)
		}
		if utf8.RuneCountInString(value) > 255 {
			return wire.BadRequest("Invalid input for field/attribute %s. The value is too long (255 characters at most)", key)
		}
	}
	return nil
}

// checkTag is Nova's parameter type "tag".
func checkTag(tag string) error {
	n := utf8.RuneCountInString(tag)
	if n < 1 || n > 60 || strings.ContainsAny(tag, ",/") {
		return wire.BadRequest("Invalid input for field/attribute tag. Value: %.100s. A tag has 1 to 60 characters without ',' and '/'", tag)
	}
	return nil
}

func checkUserData(text string) error {
	if len(text) > 65535 {
		return wire.BadRequest("Invalid input for field/attribute user_data. It is too long (65535 characters at most)")
	}
	if _, err := base64.StdEncoding.DecodeString(strings.NewReplacer("\n", "", "\r", "").Replace(text)); err != nil {
		return wire.BadRequest("Invalid input for field/attribute user_data. It is not valid base64.")
	}
	return nil
}
