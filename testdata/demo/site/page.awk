# Makes HTML of text whose first line is the title.
NR == 1 { print "<!doctype html><title>" $0 "</title>\n<h1>" $0 "</h1>"; next }
/./     { print "<p>" $0 "</p>" }
