package registry

import "strings"

// challenge is how a registry wants to be told who asks (RFC 9110, section 11.6.1).
type challenge struct {
	scheme                string // "basic" or "bearer"
	realm, service, scope string
}

// pickChallenge returns the first challenge of a scheme that we know.
func pickChallenge(headers []string) (challenge, bool) {
	for _, h := range headers {
		scheme, rest, _ := strings.Cut(strings.TrimSpace(h), " ")
		c := challenge{scheme: strings.ToLower(scheme)}
		params := challengeParams(rest)
		c.realm, c.service, c.scope = params["realm"], params["service"], params["scope"]
		if c.scheme == "basic" || c.scheme == "bearer" && c.realm != "" {
			return c, true
		}
	}
	return challenge{}, false
}

// challengeParams reads name=value pairs separated by commas; a value may be
// quoted, and may then hold commas. It stops at what it does not understand.
func challengeParams(s string) map[string]string {
	params := map[string]string{}
	for {
		name, rest, ok := strings.Cut(strings.TrimLeft(s, " \t,"), "=")
		if !ok {
			return params
		}
		var value string
		rest = strings.TrimLeft(rest, " \t")
		if quoted, ok := strings.CutPrefix(rest, `"`); ok {
			value, s = unquote(quoted)
		} else {
			value, s, _ = strings.Cut(rest, ",")
		}
		params[strings.ToLower(strings.TrimSpace(name))] = strings.TrimSpace(value)
	}
}

// unquote reads up to the closing quote, and returns what follows it.
func unquote(s string) (value, rest string) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '"':
			return b.String(), s[i+1:]
		case s[i] == '\\' && i+1 < len(s):
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String(), ""
}
