package main

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

// registry serves the image of an OCI layout, by whatever name and tag it is asked for: as much of the distribution API as it takes to
// pull.
func registry(address, layout, certificate, key string) {
	store := store{layout}
	routes := http.NewServeMux()
	routes.HandleFunc("GET /v2/{$}", func(http.ResponseWriter, *http.Request) {})
	// Names of images have slashes.
	routes.HandleFunc("GET /v2/", func(w http.ResponseWriter, r *http.Request) {
		parts := strings.Split(r.URL.Path, "/")
		kind, reference := parts[len(parts)-2], parts[len(parts)-1]
		if kind != "manifests" && kind != "blobs" {
			http.NotFound(w, r)
			return
		}
		if !strings.HasPrefix(reference, "sha256:") {
			reference = store.first()
		}
		store.serve(w, r, reference, kind == "manifests")
	})
	if err := http.ListenAndServeTLS(address, certificate, key, routes); err != nil {
		fail(err.Error())
	}
}

// store is an OCI layout.
type store struct{ folder string }

// described is what of a manifest or an index is of interest here.
type described struct {
	MediaType string `json:"mediaType"`
	Manifests []struct {
		Digest string `json:"digest"`
	} `json:"manifests"`
}

// first is the digest of the first manifest of the layout.
func (s store) first() string {
	var index described
	text, err := os.ReadFile(filepath.Join(s.folder, "index.json"))
	if err != nil || json.Unmarshal(text, &index) != nil || len(index.Manifests) == 0 {
		fail("no image in " + s.folder)
	}
	return index.Manifests[0].Digest
}

func (s store) serve(w http.ResponseWriter, r *http.Request, digest string, isManifest bool) {
	blob, err := os.ReadFile(filepath.Join(s.folder, "blobs", "sha256", filepath.Base(strings.TrimPrefix(digest, "sha256:"))))
	if err != nil {
		http.NotFound(w, r)
		return
	}
	kind := "application/octet-stream"
	if isManifest {
		kind = mediaType(blob)
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Docker-Content-Digest", digest)
	_, _ = w.Write(blob)
}

// mediaType is what a manifest says that it is. It need not.
func mediaType(blob []byte) string {
	var manifest described
	_ = json.Unmarshal(blob, &manifest)
	switch {
	case manifest.MediaType != "":
		return manifest.MediaType
	case len(manifest.Manifests) > 0:
		return "application/vnd.oci.image.index.v1+json"
	default:
		return "application/vnd.oci.image.manifest.v1+json"
	}
}
