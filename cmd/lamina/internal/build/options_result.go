package build

import "github.com/spf13/pflag"

// resultOptions say what becomes of the result.
type resultOptions struct {
	tags        []string
	labels      []string
	annotations []string
	attests     []string
	createdNote bool
	provenance  string
	sbom        string
	unset       []string
	outputs     []string
	push, load  bool

	squash, squashAll bool
	omitHistory       bool
	timestamp, epoch  string
	rewriteTimestamp  bool

	iidFile, rawIIDFile        string
	metadataFile               string
	digestFile                 string
	nameFile, nameWithTagsFile string
}

func (o *resultOptions) register(f *pflag.FlagSet) {
	f.StringArrayVarP(&o.tags, "tag", "t", nil, "Name of the image (name:tag, or TARGET=name:tag); may be repeated")
	f.StringArrayVar(&o.labels, "label", nil, "Label of the image (KEY=VALUE)")
	f.StringArrayVar(&o.annotations, "annotation", nil, "Annotation of the image ([manifest|index|manifest-descriptor|\nindex-descriptor][[PLATFORM]]:KEY=VALUE)")
	f.StringArrayVarP(&o.outputs, "output", "o", nil, "Where the result goes (type=oci|docker|tar|local|image|registry|cacheonly,dest=PATH)")
	f.BoolVar(&o.push, "push", false, "Push the image to the registries of its names")
	f.BoolVar(&o.load, "load", false, "Put the image into the store, also if --output says something else")
	f.StringArrayVar(&o.attests, "attest", nil, "Attestation about the image (type=provenance[,mode=min|max],\ntype=sbom)")
	f.StringVar(&o.provenance, "provenance", "", "Short for --attest=type=provenance (true, false or its options)")
	f.StringVar(&o.sbom, "sbom", "", "Short for --attest=type=sbom (true or false)")
	o.registerContent(f)
	o.registerFiles(f)
}

// registerContent adds the flags that change what is in the image.
func (o *resultOptions) registerContent(f *pflag.FlagSet) {
	f.StringArrayVar(&o.unset, "unset", nil, "What to remove from the image's configuration (env=NAME, label=KEY,\nexpose=PORT, volume=PATH, entrypoint, healthcheck)")
	f.BoolVar(&o.squash, "squash", false, "Make one layer of those of this build")
	f.BoolVar(&o.squashAll, "squash-all", false, "Make one layer of all, the base image's included")
	f.BoolVar(&o.omitHistory, "omit-history", false, "Leave the history out of the image")
	f.StringVar(&o.epoch, "source-date-epoch", "", "Time of the image's configuration, in seconds since 1970 (SOURCE_DATE_EPOCH)")
	f.BoolVar(&o.rewriteTimestamp, "rewrite-timestamp", false, "Make no file of this build's layers younger than SOURCE_DATE_EPOCH")
	f.BoolVar(&o.createdNote, "created-annotation", false, "Annotate the manifest with the time of the image (org.opencontainers.image.created)")
	f.StringVar(&o.timestamp, "timestamp", "", "Time of the image and of all files in this build's layers, in seconds since 1970")
}

// registerFiles adds the flags that name files to write.
func (o *resultOptions) registerFiles(f *pflag.FlagSet) {
	f.StringVar(&o.iidFile, "iidfile", "", "File to write the image's ID to")
	f.StringVar(&o.rawIIDFile, "iidfile-raw", "", "File to write the image's ID to, without \"sha256:\"")
	f.StringVar(&o.metadataFile, "metadata-file", "", "File to write the result's description to, as JSON")
	f.StringVar(&o.digestFile, "digest-file", "", "File to write the digest of the image's manifest to")
	f.StringVar(&o.nameFile, "image-name-with-digest-file", "", "File to write the image's names to, as NAME@DIGEST")
	f.StringVar(&o.nameWithTagsFile, "image-name-tag-with-digest-file", "", "File to write the image's names to, as NAME:TAG@DIGEST")
}
