// Greets who runs it.
package main

import (
	"fmt"
	"os"

	"example.org/greeter/words"
)

var version = "unknown"

func main() {
	fmt.Println(words.Greeting(os.Getuid()), version)
}
