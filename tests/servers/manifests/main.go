// Command manifests renders what is in the folder manifests/ for the tests, by the very code of kustomize and helm.
//
//	manifests kustomize FOLDER
//	manifests template CHART [VALUES.yaml]
//	manifests lint CHART [VALUES.yaml]
//
// What comes in: a Kustomize folder, or a chart with values over its own. What goes out, on standard output: the
// objects as one JSON array, in the order in which they would be applied, or of `lint` its messages, one a line. Exit
// status 1 where the tools themselves would fail, with what they say on standard error. It never asks a server.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	"helm.sh/helm/v3/pkg/releaseutil"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// The namespace that `helm install -n` would name.
const namespace = "taffrail"

func main() {
	err := errors.New("manifests kustomize|template|lint FOLDER [VALUES.yaml]")
	if arguments := os.Args[1:]; len(arguments) >= 2 {
		values := ""
		if len(arguments) > 2 {
			values = arguments[2]
		}
		switch arguments[0] {
		case "kustomize":
			err = kustomize(arguments[1], os.Stdout)
		case "template":
			err = template(arguments[1], values, os.Stdout)
		case "lint":
			err = lintChart(arguments[1], values, os.Stdout)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "manifests:", err)
		os.Exit(1)
	}
}

// kustomize builds as `kubectl apply -k` would: with the default options, so that nothing outside the roots is read.
func kustomize(folder string, out io.Writer) error {
	made, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), folder)
	if err != nil {
		return err
	}
	objects := []any{}
	for _, resource := range made.Resources() {
		object, err := resource.Map()
		if err != nil {
			return err
		}
		objects = append(objects, object)
	}
	return json.NewEncoder(out).Encode(objects)
}

// template renders as `helm template` would, which takes the values through the chart's schema first.
func template(folder, values string, out io.Writer) error {
	chart, err := loader.Load(folder)
	if err != nil {
		return err
	}
	given, err := read(values)
	if err != nil {
		return err
	}
	options := chartutil.ReleaseOptions{Name: "taffrail", Namespace: namespace, IsInstall: true}
	all, err := chartutil.ToRenderValues(chart, given, options, chartutil.DefaultCapabilities)
	if err != nil {
		return err
	}
	files, err := engine.Render(chart, all)
	if err != nil {
		return err
	}
	for name := range files {
		if strings.HasSuffix(name, ".txt") {
			delete(files, name)
		}
	}
	_, manifests, err := releaseutil.SortManifests(files, chartutil.DefaultVersionSet, releaseutil.InstallOrder)
	if err != nil {
		return err
	}
	objects := []any{}
	for _, manifest := range manifests {
		var object any
		if err := yaml.UnmarshalStrict([]byte(manifest.Content), &object); err != nil {
			return fmt.Errorf("%s: %w", manifest.Name, err)
		}
		objects = append(objects, object)
	}
	return json.NewEncoder(out).Encode(objects)
}

// lintChart fails on warnings too, as `helm lint --strict` does.
func lintChart(folder, values string, out io.Writer) error {
	given, err := read(values)
	if err != nil {
		return err
	}
	worst := support.UnknownSev
	for _, message := range lint.All(folder, given, namespace, true).Messages {
		fmt.Fprintln(out, message)
		worst = max(worst, message.Severity)
	}
	if worst >= support.WarningSev {
		return errors.New("the chart has mistakes")
	}
	return nil
}

func read(values string) (map[string]any, error) {
	if values == "" {
		return map[string]any{}, nil
	}
	return chartutil.ReadValuesFile(values)
}
