package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/transitd/transitd/pkg/config"
	"github.com/transitd/transitd/pkg/control"
	"github.com/transitd/transitd/pkg/daemon"
)

// errInvalid ends the program with status 1 after the errors were printed as JSON.
var errInvalid = errors.New("the configuration is not valid")

// checked is the JSON form of a check's result.
type checked struct {
	SchemaVersion int           `json:"schema_version"`
	OK            bool          `json:"ok"`
	Errors        config.Errors `json:"errors"`
	// Notes say what could not be checked on this machine.
	Notes []string `json:"notes"`
	// Routes are what neighbours would be told, with --against.
	Routes []control.RouteChanges `json:"routes,omitempty"`
}

func checkCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "check -c FILE", Short: "Say everything that is wrong with a configuration; touches nothing", Args: noArgs}
	file, output := fileFlag(cmd), outputFlag(cmd)
	against := cmd.Flags().String("against", "", "the configuration in force: say what the new one would announce and withdraw, per neighbour")
	routes := cmd.Flags().String("routes", "", "with --against: what neighbours have told, as \"transitctl bgp routes -o json\" writes it")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *routes != "" && *against == "" {
			return &usageError{errors.New("--routes goes with --against")}
		}
		notes, err := daemon.Check(*file)
		var changes []control.RouteChanges
		if err == nil && *against != "" {
			changes, err = daemon.CheckAgainst(*file, *against, *routes)
		}
		list := config.AsErrors(err)
		if err != nil && list == nil {
			list = config.Errors{{File: *file, Msg: err.Error(), Err: err}}
		}
		if *output == "json" {
			r := checked{SchemaVersion: 1, OK: err == nil, Errors: list, Notes: notes, Routes: changes}
			if r.Errors == nil {
				r.Errors = config.Errors{}
			}
			if r.Notes == nil {
				r.Notes = []string{}
			}
			if perr := printJSON(cmd.OutOrStdout(), r); perr != nil || err == nil {
				return perr
			}
			return errInvalid
		}
		for _, n := range notes {
			fmt.Fprintf(cmd.ErrOrStderr(), "transitd: note: %s\n", n)
		}
		if err != nil {
			return list
		}
		for _, n := range changes {
			for _, p := range n.Withdraw {
				fmt.Fprintf(cmd.OutOrStdout(), "%s: would withdraw %s\n", n.Neighbor, p)
			}
			for _, r := range n.Announce {
				fmt.Fprintf(cmd.OutOrStdout(), "%s: would announce %s\n", n.Neighbor, r.Prefix)
			}
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: ok\n", *file)
		return err
	}
	return cmd
}

// outputFlag adds -o to a command.
func outputFlag(cmd *cobra.Command) *string {
	output := cmd.Flags().StringP("output", "o", "table", "output: table or json")
	before := cmd.PreRunE
	cmd.PreRunE = func(cmd *cobra.Command, args []string) error {
		if *output != "table" && *output != "json" {
			return &usageError{fmt.Errorf("unknown output %q: use -o table or -o json", *output)}
		}
		if before == nil {
			return nil
		}
		return before(cmd, args)
	}
	return output
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("print the result: %w", err)
	}
	return nil
}
