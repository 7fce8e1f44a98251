package main

import (
	"crypto/rand"
	"encoding/base64"

	"github.com/spf13/cobra"

	"github.com/transitd/transitd/pkg/control"
	"github.com/transitd/transitd/pkg/secret"
	"github.com/transitd/transitd/tunnel/wireguard"
)

// generated is the answer of keygen.
type generated struct {
	control.Version
	File      string `json:"file"`
	PublicKey string `json:"public_key,omitempty"` // of a private key
}

func (a *app) keygenCommand() *cobra.Command {
	var preshared, public bool
	cmd := &cobra.Command{
		Use: "keygen FILE", Short: "Make a WireGuard key, and print the public key that belongs to it",
		Long: "Writes a new private key to FILE, which must not exist yet, with mode 0600, and prints its public key: that one goes\n" +
			"into the other NVA's peer_public_key. With --preshared a secret for both ends is written, and nothing is printed.\n" +
			"With --public nothing is made: the public key of the private key in FILE is printed.",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return &usageError{"keygen needs the name of one file", "transitctl keygen /etc/transitd/tr0.key"}
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			if preshared && public {
				return &usageError{"a preshared key has no public key", "use --preshared or --public"}
			}
			g := generated{Version: control.V1(), File: args[0]}
			var err error
			switch {
			case public:
				var k wireguard.PrivateKey
				k, err = wireguard.ReadPrivateKey(args[0])
				g.PublicKey = k.Public().String()
			case preshared:
				shared := make([]byte, 32)
				_, _ = rand.Read(shared) // never fails
				err = secret.Write(args[0], base64.StdEncoding.EncodeToString(shared))
			default:
				var k wireguard.PrivateKey
				if k, err = wireguard.NewPrivateKey(rand.Reader); err == nil {
					g.PublicKey = k.Public().String()
					err = secret.Write(args[0], k.Base64())
				}
			}
			if err != nil {
				return err
			}
			return a.show(g, func() {
				if g.PublicKey != "" {
					a.printf("%s", g.PublicKey)
				}
			})
		},
	}
	cmd.Flags().BoolVar(&preshared, "preshared", false, "make a preshared key")
	cmd.Flags().BoolVar(&public, "public", false, "print the public key of the private key in FILE")
	return cmd
}
