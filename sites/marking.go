package sites

// Mark is the way in which resources of a kind carry the Top id (cascade/README.md: Markers).
type Mark string

// The ways.
const (
	MarkNone        Mark = ""            // not marked: mapped or found by what it is
	MarkTag         Mark = "tag"         // a server tag MarkerText, or the metadata MetadataMarker where tags cannot be set at creation
	MarkMetadata    Mark = "metadata"    // the metadata entry MetadataMarker
	MarkDescription Mark = "description" // the description is exactly MarkerText
	MarkName        Mark = "name"        // the name is MarkedName
	MarkProperty    Mark = "property"    // the image property ImageMarker is MarkerText
)

// MetadataMarker is the key of the metadata entry whose value is MarkerText.
const MetadataMarker = "hw"

// ImageMarker is the property of an image whose value is MarkerText. createImage takes it as metadata.
const ImageMarker = "hw_marker"

// Marking returns how resources of the kind are marked.
func Marking(k Kind) Mark {
	switch k {
	case Server:
		return MarkTag
	case Volume, Snapshot:
		return MarkMetadata
	case Network, Subnet, Port, Router, FloatingIP, SecurityGroup, SecurityGroupRule:
		return MarkDescription
	case Backup, Keypair, ServerGroup, Project, User:
		return MarkName
	case Image:
		return MarkProperty
	default:
		return MarkNone
	}
}
