// Command {{.Name}} takes a line of text and gives a line of text.
package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"
)

func change(text string) string { return strings.ToUpper(text) }

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		fmt.Println(change(lines.Text()))
	}
}
