package cachetest

import (
	"testing"

	"lamina/cache"
)

func TestMemory(t *testing.T) {
	RunRepository(t, func() cache.Repository { return NewMemory() })
}

func TestIndex(t *testing.T) {
	RunIndex(t, func() cache.Index { return NewIndex() })
}
