package integration

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// TestDashboard is a person's first visit: headwater demo runs as a process, a
// real browser signs in, sees both sites, launches an instance at west with the
// site picker, watches it become ACTIVE without loading the page again, and deletes it.
//
// With HEADWATER_SCREENSHOTS=DIR every page is kept there as a picture, wide and narrow, light and dark.
func TestDashboard(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("a browser: not in the short suite")
	}
	browser := needBrowser(t)
	demo := startDemo(t)
	b := openBrowser(t, browser)

	b.run("open the dashboard", chromedp.Navigate(demo.url+"/dashboard"), chromedp.WaitVisible(css(`#password`)))
	b.shot("signin")
	b.signIn("demo", "wrong")
	b.run("be refused", chromedp.WaitVisible(css(`#problem`)))
	b.expect("#user", "value", "demo")
	b.shot("signin-refused")
	b.signIn("demo", demo.password)
	b.run("see the proof's server", chromedp.WaitVisible(`//th/a[text()="demo-server"]`))
	b.shot("instances")
	if cookie := b.eval(`document.cookie`); cookie != "" {
		t.Errorf("scripts can read %q", cookie)
	}

	b.run("see both sites up", chromedp.Click(`//nav/a[text()="Sites"]`),
		chromedp.WaitVisible(`//li[@id="site-east"]//span[contains(@class,"pill") and contains(.,"up")]`),
		chromedp.WaitVisible(`//li[@id="site-west"]//span[contains(@class,"pill") and contains(.,"up")]`))
	b.shot("sites")

	b.launchAtWest()
	b.watchAndDelete()
	b.endSession(demo.url, demo.password)

	b.run("sign out", chromedp.Click(css(`.who form button`)), chromedp.WaitVisible(css(`#password`)),
		chromedp.Navigate(demo.url+"/dashboard/sites"), chromedp.WaitVisible(css(`#password`)))
	b.signIn("admin", demo.password)
	b.run("come back to the page that was asked for", chromedp.WaitVisible(`//li[@id="site-east"]//progress`))
	b.shot("sites-operator")
	for name, path := range map[string]string{"projects": "/projects", "problem": "/nowhere", "launch-operator": "/launch", "instances-empty": "/instances"} {
		b.run("open "+path, chromedp.Navigate(demo.url+"/dashboard"+path), chromedp.WaitVisible(css(`main h1`)))
		b.shot(name)
	}
}

// launchAtWest fills the form in. The proof's network lives at east, so the picker
// says no to west until the other one is chosen, which nothing uses yet.
func (b *browser) launchAtWest() {
	b.t.Helper()
	b.run("open the form", chromedp.Click(`//nav/a[text()="Launch"]`), chromedp.WaitVisible(css(`#pick-west`)),
		chromedp.WaitVisible(`//label[contains(@class,"pick")][.//input[@id="pick-east"]][contains(.,"Fits")]`))
	b.shot("launch")
	b.walk("name", "image", "flavor", "network", "no_network", "group", "key", "pick-any", "Launch", "Sign out")
	b.run("ask for west with a network of east", chromedp.SendKeys(css(`#name`), "<b>browser</b>"), chromedp.Click(netBox("demo-net")), chromedp.Click(css(`#pick-west`)),
		chromedp.WaitVisible(css(`#zone-west`)), chromedp.WaitVisible(css(`#said.bad`)))
	b.shot("launch-refused")
	b.run("send it all the same", chromedp.Click(css(`button.big`)), chromedp.WaitVisible(css(`.alert.bad`)))
	b.expect("#name", "value", "<b>browser</b>")
	b.shot("launch-error")
	// It stayed while the choice was corrected, beside the picker's word that the instance can be made.
	b.run("choose the other network and a zone", chromedp.Click(netBox("demo-net")), chromedp.WaitNotPresent(css(`#problem`)), chromedp.Click(netBox("west-net")),
		chromedp.WaitVisible(css(`#said.good`)), chromedp.SetValue(css(`#zone-west`), "west/az2"),
		chromedp.Evaluate[chromedp.Void](`document.querySelector("#zone-west").dispatchEvent(new Event("change", {bubbles: true}))`),
		chromedp.WaitVisible(`//p[@id="said"][contains(.,"west/az2")]`))
	b.shot("launch-west")
	b.run("launch", chromedp.Click(css(`button.big`)), chromedp.WaitVisible(`//th/a[text()="<b>browser</b>"]`))
}

// netBox is the form's box of a network.
func netBox(name string) string { return `//fieldset//label[contains(.,"` + name + `")]/input` }

// watchAndDelete sees the server become ACTIVE and disappear, on one page that is never loaded again.
func (b *browser) watchAndDelete() {
	b.t.Helper()
	const row = `//tr[.//a[text()="<b>browser</b>"]]`
	b.run("mark the page", chromedp.Evaluate[chromedp.Void](`window.neverReloaded = true`))
	b.run("see it ACTIVE", chromedp.WaitVisible(row+`//span[contains(@class,"pill") and contains(.,"ACTIVE")]`))
	b.run("see it at west", chromedp.WaitVisible(row+`//td[@data-label="Site"]/b[text()="west"]`))
	b.shot("instances-active")
	b.run("stop it", chromedp.Click(row+`//a[contains(@class,"act") and text()="Stop"]`), chromedp.WaitVisible(css(`#confirm`)),
		chromedp.Click(css(`#confirm .go`)), chromedp.WaitNotPresent(css(`#confirm`)), chromedp.WaitVisible(row+`//span[contains(.,"SHUTOFF")]`))
	b.run("ask to delete it", chromedp.Click(row+`//a[contains(@class,"danger")]`), chromedp.WaitVisible(css(`#confirm`)))
	b.shot("confirm")
	b.run("think again", chromedp.Click(css(`#confirm [data-close]`)), chromedp.WaitNotPresent(css(`#confirm`)))
	if b.eval(`String(window.neverReloaded)`) != "true" {
		b.t.Error("the page was loaded again")
	}
	b.run("open its page", chromedp.Click(row+`//th/a`), chromedp.WaitVisible(`//pre[contains(@class,"console")] | //div[@id="console"]/p[@role="status"]`))
	b.shot("instance")
	b.run("mark the page", chromedp.Evaluate[chromedp.Void](`window.neverReloaded = true`))
	b.run("delete it", chromedp.Click(css(`.tools .danger`)), chromedp.WaitVisible(css(`#confirm`)), chromedp.Click(css(`#confirm .go`)))
	b.run("see it gone", chromedp.WaitVisible(`//th/a[text()="demo-server"]`), chromedp.WaitNotPresent(row))
	b.shot("deleted")
}

// needBrowser returns Chromium's path; without one the test is skipped, or fails where .ci/run demands it.
func needBrowser(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	if os.Getenv("HEADWATER_REQUIRE_BROWSER") == "1" {
		t.Fatal("no Chromium here, and HEADWATER_REQUIRE_BROWSER=1 (Debian: apt-get install chromium)")
	}
	t.Skip("no Chromium here (Debian: apt-get install chromium)")
	return ""
}

// css are selectors; plain text would be searched as XPath, and in the page's text too.
type css = chromedp.CSS

type demoProcess struct{ url, password string }

// startDemo builds and starts headwater demo, and waits until it says that it is ready.
func startDemo(t *testing.T) demoProcess {
	t.Helper()
	dir := t.TempDir()
	bin := filepath.Join(dir, "headwater")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "../cmd/headwater").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	cmd := exec.CommandContext(t.Context(), bin, "demo", "--dir", filepath.Join(dir, "demo"), "--listen", "127.0.0.1:0")
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = 20 * time.Second
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Wait() }) // after the context has ended it
	var d demoProcess
	ready, pass := regexp.MustCompile(`ready at (\S+)`), regexp.MustCompile(`password (\w+);`)
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if m := ready.FindStringSubmatch(lines.Text()); m != nil {
			d.url = m[1]
		}
		if m := pass.FindStringSubmatch(lines.Text()); m != nil {
			d.password = m[1]
			return d
		}
	}
	t.Fatalf("the demo did not become ready: %s", stderr.String())
	return d
}

// browser is one window.
type browser struct {
	t     *testing.T
	ctx   context.Context
	shots string

	mu     sync.Mutex // guards the fields below
	errors []string
}

// openBrowser starts Chromium with a profile of its own. What a page writes to
// the console as an error, a refusal of the content security policy among it, fails the test.
func openBrowser(t *testing.T, path string) *browser {
	t.Helper()
	scratch, err := os.MkdirTemp("", "headwater-browser-") // Chromium leaves its own there; a path in t.TempDir is too long for its socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(scratch) })
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.Env("TMPDIR="+scratch), chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.UserDataDir(t.TempDir()), chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
		chromedp.WSURLReadTimeout(60*time.Second))
	ctx, stop := chromedp.NewExecAllocator(t.Context(), opts...)
	t.Cleanup(stop)
	ctx, cancel := chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	b := &browser{t: t, ctx: ctx, shots: os.Getenv("HEADWATER_SCREENSHOTS")}
	if err := chromedp.Listen(ctx, b.listen); err != nil {
		t.Fatalf("start Chromium: %v", err)
	}
	t.Cleanup(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, e := range b.errors {
			t.Errorf("the page complains: %s", e)
		}
	})
	return b
}

func (b *browser) listen(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		b.errors = append(b.errors, e.ExceptionDetails.Text+" "+describe(e.ExceptionDetails.Exception))
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError && e.Entry.Source != log.EntrySourceNetwork { // a 422 is an answer, not a fault
			b.errors = append(b.errors, e.Entry.Text)
		}
	}
}

// step is how long one step may take: an emulated site boots within a second, a busy machine needs more.
const step = 60 * time.Second

// run does what a person would; a failure shows the page's text.
func (b *browser) run(what string, actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, step)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		b.t.Fatalf("%s: %v; the page says: %s", what, err, b.eval(`location.pathname + ": " + document.body.innerText`))
	}
}

func (b *browser) eval(expression string) string {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, step)
	defer cancel()
	out, err := chromedp.Run(ctx, chromedp.Evaluate[string](expression))
	if err != nil {
		return fmt.Sprintf("(%v)", err)
	}
	return out
}

func (b *browser) signIn(user, password string) {
	b.t.Helper()
	b.run("sign in", chromedp.Clear(css(`#user`)), chromedp.SendKeys(css(`#user`), user),
		chromedp.SendKeys(css(`#password`), password), chromedp.Submit(css(`#password`)))
}

// expect compares a property of an element.
func (b *browser) expect(selector, property, want string) {
	b.t.Helper()
	if got := b.eval(fmt.Sprintf(`document.querySelector(%q)[%q]`, selector, property)); got != want {
		b.t.Errorf("%s.%s = %q, want %q", selector, property, got, want)
	}
}

// shot takes the page's pictures when they are wanted, and in any case fails
// when the page is wider than a phone's screen or not accessible.
func (b *browser) shot(name string) {
	b.t.Helper()
	b.run("look at "+name+" on a phone", chromedp.EmulateViewport(390, 844))
	if got := b.eval(`String(document.documentElement.scrollWidth)`); got != "390" {
		b.t.Errorf("%s is %s pixels wide on a screen of 390", name, got)
	}
	if b.shots != "" {
		b.pictures(name)
	}
	b.accessible(name)
	b.run("look at "+name, chromedp.EmulateViewport(1280, 860))
}

func (b *browser) pictures(name string) {
	b.t.Helper()
	for _, width := range []int64{390, 1280} {
		for _, scheme := range []string{"light", "dark"} {
			b.run("choose "+scheme, chromedp.EmulateViewport(width, 860), prefer(scheme))
			png, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
			if err != nil {
				b.t.Fatalf("photograph %s: %v", name, err)
			}
			file := filepath.Join(b.shots, fmt.Sprintf("%s-%d-%s.png", name, width, scheme))
			if err := os.WriteFile(file, png, 0o600); err != nil {
				b.t.Fatal(err)
			}
		}
	}
}

// prefer sets the system's colour scheme.
func prefer(scheme string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, emulation.SetEmulatedMedia,
			emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
		return err
	})
}

func describe(o *runtime.RemoteObject) string {
	if o == nil {
		return ""
	}
	return o.Description
}
