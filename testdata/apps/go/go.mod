module guestbook

go 1.22

require (
	github.com/google/uuid v1.6.0
	github.com/yuin/goldmark v1.7.8
)
