// Command client is what a pod of the tests runs: it waits, it makes requests and prints each answer as a line of JSON, or it is a
// registry of one image.
//
//	client wait
//	client request [flags] URL...
//	client write FILE [TEXT]
//	client read FILE
//	client registry ADDRESS LAYOUT CERTIFICATE KEY
//	client look FILE...
//
// Of several URLs each is asked in turn. URLs, headers and data may name variables of the environment ($ANTHROPIC_BASE_URL): so it
// needs what an agent needs. $NUMBER in the data is the request's own, of six digits. What is written without a text comes from
// standard input. `look` prints for each file a line of JSON, with its content or why it cannot be read.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) < 2 {
		fail("say what to do")
	}
	switch verb, arguments := os.Args[1], os.Args[2:]; {
	case verb == "wait" && len(arguments) == 0:
		wait()
	case verb == "request":
		request(arguments)
	case verb == "write" && len(arguments) == 1:
		content, err := io.ReadAll(os.Stdin)
		if err != nil {
			fail(err.Error())
		}
		write(arguments[0], content)
	case verb == "write" && len(arguments) == 2:
		write(arguments[0], []byte(arguments[1]))
	case verb == "look" && len(arguments) > 0:
		look(arguments)
	case verb == "read" && len(arguments) == 1:
		text, err := os.ReadFile(arguments[0])
		if err != nil {
			fail(err.Error())
		}
		os.Stdout.Write(text)
	case verb == "registry" && len(arguments) == 4:
		registry(arguments[0], arguments[1], arguments[2], arguments[3])
	default:
		fail("not understood: " + strings.Join(os.Args[1:], " "))
	}
}

func fail(reason string) {
	fmt.Fprintln(os.Stderr, "client:", reason)
	os.Exit(2)
}

func write(file string, content []byte) {
	if err := os.WriteFile(file, content, 0o600); err != nil {
		fail(err.Error())
	}
}

func look(files []string) {
	print := json.NewEncoder(os.Stdout)
	for _, file := range files {
		seen := struct {
			Content string `json:"content"`
			Error   string `json:"error"`
		}{}
		content, err := os.ReadFile(file)
		seen.Content = string(content)
		if err != nil {
			seen.Error = err.Error()
		}
		_ = print.Encode(seen)
	}
}

// wait ends at the signal that ends a pod. The kernel has no default for the first process of a pod.
func wait() {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	<-stop
}

// plan is what the flags say.
type plan struct {
	method   string
	urls     []string
	headers  http.Header
	data     string
	count    int64
	parallel int
	lasting  time.Duration
	until    int
	timeout  time.Duration
	strict   bool
	tls      *tls.Config
}

func request(arguments []string) {
	p := parse(arguments)
	client := &http.Client{
		Timeout: p.timeout,
		Transport: &http.Transport{
			TLSClientConfig:     p.tls,
			ForceAttemptHTTP2:   true,
			MaxIdleConnsPerHost: p.parallel,
			DisableCompression:  true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	if !p.run(client) && p.strict {
		os.Exit(1)
	}
}

func parse(arguments []string) plan {
	p := plan{headers: http.Header{}}
	flags := flag.NewFlagSet("client request", flag.ExitOnError)
	flags.StringVar(&p.method, "method", "", "GET, or POST where there is data")
	flags.StringVar(&p.data, "data", "", "the body")
	flags.Int64Var(&p.count, "count", 0, "how many requests; by default one for each URL")
	flags.IntVar(&p.parallel, "parallel", 1, "how many of them at a time")
	flags.DurationVar(&p.lasting, "for", 0, "go on for so long, instead of a count")
	flags.IntVar(&p.until, "until", 0, "go on until an answer has this status, if none of these ends it before")
	flags.DurationVar(&p.timeout, "timeout", time.Minute, "the longest that one request may take")
	flags.BoolVar(&p.strict, "strict", false, "exit with 1 unless every answer was a whole 2xx")
	flags.Func("header", "NAME: VALUE, any number of times", func(line string) error {
		name, value, found := strings.Cut(line, ":")
		if !found {
			return fmt.Errorf("no colon in %q", line)
		}
		p.headers.Add(name, os.ExpandEnv(strings.TrimSpace(value)))
		return nil
	})
	ca := flags.String("ca", "", "a file of certificates to trust, instead of the image's")
	certificate := flags.String("certificate", "", "a file with the client's certificate")
	key := flags.String("key", "", "a file with its key")
	_ = flags.Parse(arguments)
	for _, url := range flags.Args() {
		p.urls = append(p.urls, os.ExpandEnv(url))
	}
	if len(p.urls) == 0 {
		fail("name a URL")
	}
	p.data = os.Expand(p.data, func(name string) string {
		if name == "NUMBER" {
			return number
		}
		return os.Getenv(name)
	})
	if p.method == "" {
		p.method = http.MethodGet
		if p.data != "" {
			p.method = http.MethodPost
		}
	}
	if p.count == 0 {
		p.count = int64(len(p.urls))
	}
	p.tls = trust(*ca, *certificate, *key)
	return p
}

func trust(ca, certificate, key string) *tls.Config {
	config := &tls.Config{}
	if ca != "" {
		text, err := os.ReadFile(ca)
		config.RootCAs = x509.NewCertPool()
		if err != nil || !config.RootCAs.AppendCertsFromPEM(text) {
			fail("no certificates in " + ca)
		}
	}
	if certificate != "" {
		pair, err := tls.LoadX509KeyPair(certificate, key)
		if err != nil {
			fail(err.Error())
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config
}

// number stands in the data where each request puts its own.
const number = "$NUMBER"

// answer is what came of one request. Complete says that the body came to its end.
type answer struct {
	Status   int               `json:"status"`
	Headers  map[string]string `json:"headers"`
	Body     string            `json:"body"`
	Complete bool              `json:"complete"`
	Error    string            `json:"error"`
	Seconds  float64           `json:"seconds"`
}

// run makes all requests, prints the answers as they end, and says whether each was a whole 2xx.
func (p plan) run(client *http.Client) bool {
	var begun atomic.Int64
	var good, met atomic.Bool
	good.Store(true)
	end := time.Now().Add(p.lasting)
	more := func(number int64) bool {
		if p.lasting > 0 {
			return time.Now().Before(end) && !met.Load()
		}
		return number <= p.count && !met.Load()
	}
	var workers sync.WaitGroup
	var line sync.Mutex
	print := json.NewEncoder(os.Stdout)
	print.SetEscapeHTML(false)
	for range p.parallel {
		workers.Go(func() {
			for n := begun.Add(1); more(n); n = begun.Add(1) {
				a := p.once(client, n)
				if !a.Complete || a.Status/100 != 2 {
					good.Store(false)
				}
				if p.until > 0 && a.Status == p.until {
					met.Store(true)
				}
				line.Lock()
				_ = print.Encode(a)
				line.Unlock()
				if a.Error != "" {
					// Whoever finds a door closed does not hammer at it.
					time.Sleep(afterError)
				}
			}
		})
	}
	workers.Wait()
	return good.Load()
}

const afterError = 100 * time.Millisecond

func (p plan) once(client *http.Client, n int64) (a answer) {
	start := time.Now()
	a.Headers = map[string]string{}
	defer func() { a.Seconds = time.Since(start).Seconds() }()
	data := strings.ReplaceAll(p.data, number, fmt.Sprintf("%06d", n))
	r, err := http.NewRequest(p.method, p.urls[(n-1)%int64(len(p.urls))], strings.NewReader(data))
	if err != nil {
		a.Error = err.Error()
		return a
	}
	r.Header = p.headers.Clone()
	got, err := client.Do(r)
	if err != nil {
		a.Error = err.Error()
		return a
	}
	defer got.Body.Close()
	body, err := io.ReadAll(got.Body)
	a.Status, a.Body, a.Complete = got.StatusCode, string(body), err == nil
	if err != nil {
		a.Error = err.Error()
	}
	// Trailers are there only now: gRPC says in one of them how a call went.
	for _, part := range []http.Header{got.Header, got.Trailer} {
		for name, values := range part {
			a.Headers[strings.ToLower(name)] = strings.Join(values, ", ")
		}
	}
	return a
}
