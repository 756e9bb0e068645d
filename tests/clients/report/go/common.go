// Package report is what the report's programs in Go share: features that are tried one by one, each told in
// a line.
package report

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"regexp"
	"time"
)

var (
	run    = fresh()
	given  = 0
	spaces = regexp.MustCompile(`\s+`)
)

// Address is that of the server.
func Address() string { return os.Args[1] }

func fresh() string {
	bytes := make([]byte, 4)
	if _, err := rand.Read(bytes); err != nil {
		panic(err)
	}
	return hex.EncodeToString(bytes)
}

// Name is one that nobody has had.
func Name(what string) string {
	given++
	return fmt.Sprintf("report-%s-%d-%s", what, given, run)
}

// Run is in all names of this run.
func Run() string { return run }

// Tried tells whether a feature works; it may panic.
func Tried(feature string, trial func()) {
	defer func() {
		if why := recover(); why != nil {
			text := spaces.ReplaceAllString(fmt.Sprint(why), " ")
			fmt.Printf("%s\tfail\t%.200s\n", feature, text)
		} else {
			fmt.Printf("%s\tpass\t\n", feature)
		}
	}()
	trial()
}

// Unsupported tells that a client lacks a feature.
func Unsupported(feature, why string) { fmt.Printf("%s\t-\t%s\n", feature, why) }

// Check panics with an error.
func Check(err error) {
	if err != nil {
		panic(err)
	}
}

// Must is a value without an error.
func Must[T any](value T, err error) T {
	Check(err)
	return value
}

// Same panics where two values differ.
func Same(found, wanted any) {
	if fmt.Sprintf("%#v", found) != fmt.Sprintf("%#v", wanted) {
		panic(fmt.Sprintf("found %#v, wanted %#v", found, wanted))
	}
}

// Until waits.
func Until(what string, holds func() bool) {
	deadline := time.Now().Add(30 * time.Second)
	for !holds() {
		if time.Now().After(deadline) {
			panic("gave up waiting for " + what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Numbers are so many texts.
func Numbers(prefix string, count int) []string {
	all := make([]string, count)
	for number := range all {
		all[number] = fmt.Sprint(prefix, number)
	}
	return all
}
