// What a page does wrong for people who use the keyboard, a screen reader or weak eyes, one line each; "" for nothing.
// The rules are those of WCAG 2.2, level AA, that a program can judge: 1.1.1, 1.3.1, 1.4.3, 1.4.11, 2.4.2, 3.1.1, 4.1.2.
(() => {
  const wrong = [];
  const name = (e) => `<${e.tagName.toLowerCase()}${e.id ? "#" + e.id : ""}${e.className ? "." + e.className : ""}> ${e.textContent.trim().slice(0, 30)}`;
  const seen = (e) => e.checkVisibility({ checkVisibilityCSS: true }) && e.getClientRects().length > 0;

  // Colours, with what shines through.
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const colour = (text) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = text;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, below, alpha = top[3]) => [0, 1, 2].map((i) => top[i] * alpha + below[i] * (1 - alpha)).concat(1);
  const ground = (e) => {
    const layers = [];
    for (let at = e; at; at = at.parentElement) layers.push(colour(getComputedStyle(at).backgroundColor));
    return layers.reduceRight((below, top) => over(top, below), colour("Canvas"));
  };
  const opacity = (e) => (e ? Number(getComputedStyle(e).opacity) * opacity(e.parentElement) : 1);
  const light = (c) => [0.2126, 0.7152, 0.0722].reduce((sum, share, i) => {
    const x = c[i] / 255;
    return sum + share * (x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
  }, 0);
  const contrast = (a, b) => {
    const [low, high] = [light(a), light(b)].sort((x, y) => x - y);
    return (high + 0.05) / (low + 0.05);
  };

  for (const e of document.body.querySelectorAll("*")) {
    const own = [...e.childNodes].some((n) => n.nodeType === Node.TEXT_NODE && n.data.trim());
    const field = e.matches("input:not([type=hidden], [type=checkbox], [type=radio]), textarea, select");
    if (!seen(e) || e.matches(":disabled, .hidden, .skip, noscript") || e.closest("#notices")) continue; // notices fade out
    const style = getComputedStyle(e), behind = ground(e);
    if (own || field) {
      const text = colour(style.color), size = parseFloat(style.fontSize);
      const least = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700) ? 3 : 4.5;
      const got = contrast(over(text, behind, text[3] * opacity(e)), behind);
      if (got < least) wrong.push(`contrast ${got.toFixed(2)}, want ${least}: ${name(e)}`);
    }
    if (field) {
      const got = contrast(over(colour(style.borderTopColor), behind), ground(e.parentElement));
      if (got < 3) wrong.push(`a field's border has contrast ${got.toFixed(2)}, want 3: ${name(e)}`);
    }
  }

  for (const e of document.querySelectorAll("input:not([type=hidden]), textarea, select")) {
    if (![...e.labels].some((l) => l.textContent.trim()) && !e.ariaLabel) wrong.push(`a field without a label: ${name(e)}`);
  }
  for (const e of document.querySelectorAll("a[href], button, summary")) {
    if (seen(e) && !e.textContent.trim() && !e.ariaLabel && !e.querySelector("img[alt]:not([alt=''])")) wrong.push(`nothing says what it does: ${name(e)}`);
  }
  for (const e of document.querySelectorAll("img:not([alt])")) wrong.push(`a picture without a text: ${e.src}`);
  for (const e of document.querySelectorAll("fieldset")) if (!e.querySelector("legend")?.textContent.trim()) wrong.push(`a group without a legend: ${name(e)}`);
  for (const e of document.querySelectorAll("table")) if (!e.querySelector("thead th")) wrong.push("a table without headings");
  for (const e of document.querySelectorAll("[aria-labelledby], [aria-describedby]")) {
    for (const id of `${e.getAttribute("aria-labelledby") ?? ""} ${e.getAttribute("aria-describedby") ?? ""}`.split(" ")) {
      // The dialog's title comes with its text.
      if (id && !document.getElementById(id) && !e.matches("dialog:not([open])")) wrong.push(`${name(e)} is named by #${id}, which is not there`);
    }
  }
  const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
  for (const id of new Set(ids.filter((id, i) => ids.indexOf(id) !== i))) wrong.push(`two elements are #${id}`);
  if (document.querySelectorAll("h1").length !== 1) wrong.push(`${document.querySelectorAll("h1").length} headings h1, want 1`);
  if (!document.documentElement.lang || !document.title) wrong.push("the page has no language or no title");
  return wrong.join("\n");
})()
