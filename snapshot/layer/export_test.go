package layer

import "encoding/binary"

// Reseal corrects the checksums of a list's blocks, so that what is in them is looked at.
func Reseal(list []byte) []byte {
	out := append([]byte(nil), list...)
	at := len(listMagic)
	for number := uint32(0); at+blockHead <= len(out); number++ {
		size := int(binary.BigEndian.Uint32(out[at:]))
		body := at + blockHead
		if size < 0 || size > len(out)-body {
			break
		}
		binary.BigEndian.PutUint32(out[at+4:], blockSum(number, out[body:body+size]))
		at = body + size
	}
	return out
}
