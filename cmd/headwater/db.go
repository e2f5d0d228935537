package main

import (
	"net/http"

	"github.com/spf13/cobra"

	"github.com/headwater-cloud/headwater/cmd/internal/table"
)

// dbCommand is "headwater db".
func (o *operator) dbCommand() *cobra.Command {
	return o.group("db", "Look after Top's database", o.rotateKey())
}

func (o *operator) rotateKey() *cobra.Command {
	var out table.Output
	var existing bool
	c := &cobra.Command{
		Use: "rotate-key", Short: "Seal all site credentials with a new key", Args: argsOf(cobra.NoArgs),
		Long: "Makes a key, adds it to the key file of the Top that answers, and seals every site's credential with it. After an\n" +
			"interruption run it again with --existing. Older keys stay in the file, because backups of the database need them.\n" +
			"Where several Tops have copies of the key file: add the new key's line to all copies, then run it with --existing.",
		RunE: func(c *cobra.Command, _ []string) error {
			api, err := o.client()
			if err != nil {
				return err
			}
			var got struct {
				Key      string `json:"key"`
				Sites    int    `json:"sites"`
				Projects int    `json:"projects"`
			}
			if _, err := api.Do(c.Context(), http.MethodPost, "/keys/rotate", nil, map[string]any{"existing": existing}, &got); err != nil {
				return err
			}
			return out.Show(o.out, []table.Field{{Name: "Key", Value: got.Key}, {Name: "Sites", Value: got.Sites}, {Name: "Projects", Value: got.Projects}})
		}}
	out.Flags(c.Flags())
	c.Flags().BoolVar(&existing, "existing", false, "make no key: seal with the newest one that is in the file")
	return c
}
