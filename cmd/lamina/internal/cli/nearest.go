package cli

// Nearest returns the first of words that is the least number of edits away from
// word, if that is less than limit.
func Nearest(word string, words []string, limit int) string {
	best := ""
	for _, w := range words {
		if d := editDistance(word, w); d < limit {
			best, limit = w, d
		}
	}
	return best
}

// editDistance is the least number of bytes to insert, remove, replace or swap
// with their neighbour that turns a into b.
func editDistance(a, b string) int {
	var before []int // the row above the previous one
	prev := make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(prev[j]+1, row[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, prev = prev, row
	}
	return prev[len(b)]
}
