// Command {{.Name}} takes 20 ms of sound and gives as much. Each begins with its length in bytes; all numbers are big-endian.
package main

import (
	"encoding/binary"
	"io"
	"log"
	"os"
)

func change(sample int16) int16 { return sample / 2 }

func main() {
	for {
		var length uint32
		if err := binary.Read(os.Stdin, binary.BigEndian, &length); err == io.EOF {
			return
		} else if err != nil {
			log.Fatal(err)
		}
		sound := make([]byte, 4+length)
		if _, err := io.ReadFull(os.Stdin, sound[4:]); err != nil {
			log.Fatal(err)
		}
		binary.BigEndian.PutUint32(sound, length)
		for i := 4; i+1 < len(sound); i += 2 {
			binary.BigEndian.PutUint16(sound[i:], uint16(change(int16(binary.BigEndian.Uint16(sound[i:])))))
		}
		if _, err := os.Stdout.Write(sound); err != nil {
			log.Fatal(err)
		}
	}
}
