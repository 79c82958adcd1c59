package solver

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strconv"

	"github.com/opencontainers/go-digest"

	"lamina/cache"
)

// keyVersion is raised whenever the meaning of an operation changes, so that
// results of another lamina are never mistaken for ours. testdata/keys.golden
// pins the encoding: if that file must change, this number must.
const keyVersion = 1

// KeyOf names the result of op on inputs with these identities. It is pure: the
// same in every process on every machine. The order of inputs counts.
func KeyOf(op Op, inputs []digest.Digest) cache.Key {
	return digest.FromBytes(encode(struct {
		Version int             `json:"v"`
		Kind    string          `json:"kind"`
		Op      Op              `json:"op"`
		Inputs  []digest.Digest `json:"inputs,omitempty"`
	}{keyVersion, op.kind(), op, inputs}))
}

// salted is the identity of a result that was made anew although k is
// remembered: whatever was built on the old result must not pass for built on
// this one.
func salted(k cache.Key, salt string) digest.Digest {
	return digest.FromString(k.String() + " " + salt)
}

// encode is the JSON of v, a plain value. JSON cannot tell two strings apart
// that differ only in bytes that are not UTF-8, so where it had to replace any,
// the strings follow as they are.
func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("solver: operation cannot be encoded: " + err.Error())
	}
	if bytes.Contains(b, []byte(`\ufffd`)) {
		b = appendStrings(append(b, '\n'), reflect.ValueOf(v))
	}
	return b
}

func appendStrings(b []byte, v reflect.Value) []byte {
	switch v.Kind() {
	case reflect.String:
		b = append(strconv.AppendQuote(b, v.String()), ' ')
	case reflect.Interface, reflect.Pointer:
		if !v.IsNil() {
			b = appendStrings(b, v.Elem())
		}
	case reflect.Slice:
		for i := range v.Len() {
			b = appendStrings(b, v.Index(i))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).Tag.Get("json") != "-" {
				b = appendStrings(b, v.Field(i))
			}
		}
	}
	return b
}
