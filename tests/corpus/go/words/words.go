// Package words has what is said.
package words

import "strconv"

// Greeting greets a user.
func Greeting(user int) string {
	return "hello " + strconv.Itoa(user)
}
