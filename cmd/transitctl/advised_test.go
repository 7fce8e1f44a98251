package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestAdvisedCommandsExist: every transitctl command line that the programs,
// alerts and documents tell somebody to type is one that the command tree takes.
func TestAdvisedCommandsExist(t *testing.T) {
	t.Parallel()
	found := map[string]int{}
	for _, dir := range []string{"../../cmd", "../../pkg", "../../docs", "../../packaging", "../../README.md"} {
		err := filepath.WalkDir(dir, func(file string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() || strings.HasSuffix(file, "_test.go") {
				return err
			}
			kind := filepath.Ext(file)
			lines, err := advised(file, kind)
			for _, line := range lines {
				found[kind]++
				if err := accepts(line); err != nil {
					t.Errorf("%s advises %q: %v", file, line, err)
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for kind, least := range map[string]int{".go": 40, ".md": 60, ".yml": 5} {
		if found[kind] < least {
			t.Errorf("only %d commands in %s files: they are not found any more", found[kind], kind)
		}
	}
}

// accepts checks a command line as cobra does before it runs a command.
func accepts(line string) error {
	line = strings.NewReplacer("ADDRESS", value, "PREFIX", value, "172.<TAB>", value).Replace(line)
	line = regexp.MustCompile(`'[^']*'|"[^"]*"|\{\{[^}]*\}\}|%[a-z]`).ReplaceAllString(line, value)
	line = regexp.MustCompile(`\s*([#|;,&>].*|: .*)$`).ReplaceAllString(line, "") // a comment, or another command
	words := strings.Fields(strings.NewReplacer("[", "", "]", "").Replace(line))
	cmd, rest, err := newApp("").command().Find(words[1:])
	if err != nil {
		return err
	}
	if err := cmd.ParseFlags(rest); err != nil {
		return err
	}
	return cmd.ValidateArgs(cmd.Flags().Args())
}

// value stands for what is known only when the program runs: a name, or an address.
const value = "192.0.2.1"

// advised are the command lines in a file: in Go the strings that begin with one, in
// Markdown code, in alerts what comes next.
func advised(file, kind string) ([]string, error) {
	switch kind {
	case ".go":
		return advisedInGo(file)
	case ".md":
		return matches(file, "(?:`|(?m:^))(transitctl [^`\n]+ [^`\n]+)") // one word is a command's name
	case ".yml":
		return matches(file, `Next: (transitctl [^"]+)"`)
	}
	return nil, nil
}

func matches(file, pattern string) (lines []string, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read what is advised: %w", err)
	}
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(string(text), -1) {
		lines = append(lines, m[1])
	}
	return lines, nil
}

func advisedInGo(file string) (lines []string, err error) {
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
	if err != nil {
		return nil, fmt.Errorf("parse what advises: %w", err)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		x, ok := n.(ast.Expr)
		if !ok {
			return true
		}
		text, ok := joined(x)
		if ok && command.MatchString(text) && !sentence.MatchString(text) {
			lines = append(lines, text)
		}
		return !ok
	})
	return lines, nil
}

// command is how a command line begins; sentence is what speaks of one, and is none to type.
var (
	command  = regexp.MustCompile(`^transitctl [a-z]`)
	sentence = regexp.MustCompile(` (writes|shows|removes) `)
)

// joined is the text of a string, or of a sum that begins with one, in which value
// stands for what is no string.
func joined(x ast.Expr) (string, bool) {
	switch x := x.(type) {
	case *ast.BasicLit:
		text, err := strconv.Unquote(x.Value)
		return text, x.Kind == token.STRING && err == nil
	case *ast.BinaryExpr:
		left, ok := joined(x.X)
		right, also := joined(x.Y)
		if !also {
			right = value
		}
		return left + right, ok && x.Op == token.ADD
	}
	return "", false
}
