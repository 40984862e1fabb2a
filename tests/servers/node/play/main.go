// Command play is all that is in the image of the test node's pods.
//
//	play pause                         waits for a signal, and reaps children: the sandbox of each pod
//	play write NAME LINES RATE [EXIT]  numbered lines on standard output, so many a second (0: as quick as it can); then it
//	                                   ends with that code, or waits for a signal if there is none
//
// A line says who wrote it, in which life, and the how manieth it is: `NAME@LIFE 000000017 xxx…`, 200 bytes in all. A life
// is from a start to an end, and is called by the nanoseconds of its beginning. So a test knows what was written without
// being told: all from 1 to LINES.
package main

import (
	"bufio"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	ends := make(chan os.Signal, 8)
	signal.Notify(ends, syscall.SIGINT, syscall.SIGTERM)
	switch arguments := os.Args[1:]; {
	case len(arguments) == 1 && arguments[0] == "pause":
		pause(ends)
	case len(arguments) > 3 && arguments[0] == "write":
		lines, rate := number(arguments[2]), number(arguments[3])
		write(arguments[1], lines, rate)
		if len(arguments) > 4 {
			os.Exit(number(arguments[4]))
		}
		<-ends
	default:
		fmt.Fprintln(os.Stderr, "play pause | play write NAME LINES RATE [EXIT]")
		os.Exit(2)
	}
}

func number(text string) int {
	read, err := strconv.Atoi(text)
	if err != nil {
		fmt.Fprintln(os.Stderr, "play:", err)
		os.Exit(2)
	}
	return read
}

func pause(ends chan os.Signal) {
	children := make(chan os.Signal, 8)
	signal.Notify(children, syscall.SIGCHLD)
	for {
		select {
		case <-ends:
			return
		case <-children:
			for {
				if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 || err != nil {
					break
				}
			}
		}
	}
}

// write writes what is due every few milliseconds. A signal does not end it before its last line: how many there are is
// what was asked for.
func write(name string, lines, rate int) {
	out := bufio.NewWriterSize(os.Stdout, 64<<10)
	start := time.Now()
	life := fmt.Sprintf("%s@%d", name, start.UnixNano())
	for written := 0; written < lines; {
		due := lines
		if rate > 0 {
			due = min(lines, 1+int(time.Since(start).Seconds()*float64(rate)))
		}
		for ; written < due; written++ {
			line := fmt.Sprintf("%s %09d ", life, written+1)
			out.WriteString(line + strings.Repeat("x", max(0, 199-len(line))) + "\n")
		}
		out.Flush()
		if written < lines {
			time.Sleep(5 * time.Millisecond)
		}
	}
}
