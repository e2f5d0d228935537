package integration

import (
	"context"
	_ "embed"
	"strings"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

//go:embed testdata/accessibility.js
var accessibility string

// accessible fails for what the page does wrong for people who use the keyboard, a
// screen reader or weak eyes, light and dark.
func (b *browser) accessible(name string) {
	b.t.Helper()
	for _, scheme := range []string{"dark", "light"} {
		b.run("choose "+scheme, prefer(scheme))
		if wrong := b.judged(); wrong != "" {
			b.t.Errorf("%s, %s:\n%s", name, scheme, wrong)
		}
	}
}

// judged is what is wrong with the page once it stands still: while the browser of a busy machine is drawing it anew, its colours are not those that will be seen.
func (b *browser) judged() string {
	b.t.Helper()
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	wrong := ""
	for range 25 {
		if wrong = b.eval(accessibility); wrong == "" {
			break
		}
		<-ticker.C
	}
	return wrong
}

// focused is what the keyboard is at: its name, and how broad the frame is that shows it (a site's stands around its label).
const focused = `(() => {
	const e = document.activeElement;
	if (e === document.body) return "";
	const frame = (e.closest(".pick") ?? e), style = getComputedStyle(frame);
	return (e.id || e.name || e.textContent.trim()) + " " + (style.outlineStyle === "none" ? 0 : parseFloat(style.outlineWidth));
})()`

// walk goes through the page by the Tab key alone: it comes to each of the elements, and each stop is seen.
func (b *browser) walk(want ...string) {
	b.t.Helper()
	b.run("start at the top", chromedp.Evaluate[chromedp.Void](`document.querySelector(".skip").focus()`))
	came := map[string]bool{}
	for range 60 {
		b.run("press Tab", chromedp.KeyEvent(kb.Tab))
		at := b.eval(focused)
		if at == "" {
			break // past the last one
		}
		cut := strings.LastIndexByte(at, ' ')
		came[at[:cut]] = true
		if at[cut+1:] == "0" {
			b.t.Errorf("nothing shows that the keyboard is at %s", at[:cut])
		}
	}
	for _, name := range want {
		if !came[name] {
			b.t.Errorf("the Tab key does not come to %q, but to %v", name, came)
		}
	}
}

// endSession takes the session from the browser while a page is open: its live part leads to the sign-in page, and
// signing in back to the page. A form with another session's secret does nothing and says so.
func (b *browser) endSession(url, password string) {
	b.t.Helper()
	b.run("open the instances", chromedp.Navigate(url+"/dashboard/instances?name=demo"), chromedp.WaitVisible(css(`#live`)),
		forgetCookies(), chromedp.WaitVisible(`//p[@role="status"][contains(.,"Your session has ended")]`))
	b.shot("signin-ended")
	b.signIn("demo", password)
	b.run("come back", chromedp.WaitVisible(`//th/a[text()="demo-server"]`))
	b.expect("#name", "value", "demo")
	b.run("forge a form", chromedp.Navigate(url+"/dashboard/launch"), chromedp.WaitVisible(css(`#name`)), chromedp.SendKeys(css(`#name`), "forged"),
		chromedp.Evaluate[chromedp.Void](`document.querySelector("#launch [name=csrf]").value = "A".repeat(26)`),
		chromedp.Click(css(`button.big`)), chromedp.WaitNotPresent(css(`#launch`)), chromedp.WaitVisible(css(`main h1`)))
	b.shot("forged")
	b.run("see that nothing was made", chromedp.Navigate(url+"/dashboard/instances?name=forged"), chromedp.WaitVisible(`//b[contains(.,"No instance has")]`))
}

// forgetCookies takes every cookie from the browser.
func forgetCookies() chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, network.ClearBrowserCookies, cdp.Empty{})
		return err
	})
}
