package schema

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// extension of files with schemas, which are called NAME-VERSION.dtd, as in printer-2.dtd.
const extension = ".dtd"

// FileName is the name of the file of a schema.
func FileName(name string, version uint32) string {
	return name + "-" + strconv.FormatUint(uint64(version), 10) + extension
}

// ParseFileName says which schema a file is of.
func ParseFileName(file string) (name string, version uint32, err error) {
	base, isDTD := strings.CutSuffix(filepath.Base(file), extension)
	at := strings.LastIndexByte(base, '-')
	if isDTD && at > 0 {
		n, err := strconv.ParseUint(base[at+1:], 10, 32)
		if err == nil && n > 0 && isName(base[:at]) {
			return base[:at], uint32(n), nil
		}
	}
	return "", 0, fmt.Errorf("%s: the name of a file with a schema is NAME-VERSION%s, as in printer-2%s", file, extension, extension)
}

// ReadFile reads a file of at most MaxBytes; what is longer is read no further than needed to be refused.
func ReadFile(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, MaxBytes+1))
}

// AddFiles adds the schemas in files, and in the files *.dtd directly within directories. Its error names every file
// that is none.
func (s *Set) AddFiles(paths ...string) error {
	var wrong []error
	for _, path := range paths {
		files := []string{path}
		info, err := os.Stat(path)
		if err == nil && info.IsDir() {
			files, err = filepath.Glob(filepath.Join(globQuote(path), "*"+extension))
		}
		if err != nil {
			wrong = append(wrong, err)
			continue
		}
		for _, file := range files {
			if err := s.addFile(file); err != nil {
				wrong = append(wrong, err)
			}
		}
	}
	return errors.Join(wrong...)
}

// globQuote makes a path a pattern of itself alone.
func globQuote(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

func (s *Set) addFile(file string) error {
	name, version, err := ParseFileName(file)
	if err != nil {
		return err
	}
	text, err := ReadFile(file)
	if err == nil {
		err = s.Add(name, version, text)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

// KeepIn is a Set's Keep that writes files which AddFiles reads, each whole or not at all, into a directory that it
// makes.
func KeepIn(dir string) func(name string, version uint32, text []byte) error {
	return func(name string, version uint32, text []byte) error {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		file := filepath.Join(dir, FileName(name, version))
		if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
			return err // it was read from there
		}
		return writeWhole(file, text)
	}
}

// writeWhole writes a file that is on the disk when it returns.
func writeWhole(file string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(file), ".half-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), file); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(file))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
