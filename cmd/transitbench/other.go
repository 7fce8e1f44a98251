package main

import "github.com/spf13/cobra"

func serveCommand() *cobra.Command  { return &cobra.Command{Use: "serve"} }
func clientCommand() *cobra.Command { return &cobra.Command{Use: "client"} }
func compareCommand() *cobra.Command { return &cobra.Command{Use: "compare"} }
