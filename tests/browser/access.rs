//! What a page owes to those who do not see it, or not well (WCAG 2.2, level AA, as far as a program can tell).

use crate::driver::Browser;

/// Everything on the page that breaks a rule, in one script: contrast of text (1.4.3), names of what can be used (4.1.2), texts
/// for pictures (1.1.1), the language (3.1.1), a title (2.4.2), the order of headings (1.3.1), heads of tables (1.3.1),
/// names that occur twice, and width on a phone (1.4.10).
const RULES: &str = r#"
const problems = [];
const say = (rule, element) => problems.push(`${rule}: ${element.outerHTML.slice(0, 160)}`);
const parse = (text) => {
  const parts = text.match(/[\d.]+/g).map(Number);
  return parts.length < 4 ? [...parts, 1] : parts;
};
const over = (top, below) => [0, 1, 2].map((part) => top[part] * top[3] + below[part] * (1 - top[3])).concat(1);
const light = (colour) => {
  const [r, g, b] = colour.map((part) => part / 255).map((part) => (part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const ground = (element) => {
  const layers = [];
  for (let at = element; at; at = at.parentElement) layers.push(parse(getComputedStyle(at).backgroundColor));
  return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1]);
};
const isShown = (element) => element.checkVisibility() && element.getClientRects().length > 0;
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  if (!walker.currentNode.textContent.trim() || ["SCRIPT", "STYLE", "OPTION"].includes(element.tagName) || !isShown(element)) continue;
  const style = getComputedStyle(element);
  const back = ground(element);
  const front = over(parse(element.closest("svg") ? style.fill : style.color), back);
  const [high, low] = [light(front), light(back)].sort((a, b) => b - a);
  const ratio = (high + 0.05) / (low + 0.05);
  const isLarge = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && Number(style.fontWeight) >= 700);
  if (ratio < (isLarge ? 3 : 4.5)) say(`contrast ${ratio.toFixed(2)}`, element);
}
for (const element of document.querySelectorAll("button, a[href], input:not([type=hidden]), select, summary")) {
  if (!isShown(element)) continue;
  const named = element.textContent.trim() || element.getAttribute("aria-label") || element.closest("label")?.textContent.trim() || element.title;
  if (!named) say("no name", element);
}
for (const image of document.querySelectorAll("img")) if (!image.hasAttribute("alt")) say("no text for a picture", image);
for (const image of document.querySelectorAll("svg")) if (isShown(image) && !image.closest("[role=img]") && !["group", "progressbar"].includes(image.getAttribute("role"))) say("no role", image);
for (const table of document.querySelectorAll("table")) if (isShown(table) && !table.closest(".u-legend") && !table.classList.contains("u-legend") && !table.querySelector("th[scope]")) say("no head", table);
if (!document.documentElement.lang) say("no language", document.documentElement);
if (!document.title) say("no title", document.head);
let level = 0;
for (const head of document.querySelectorAll("h1, h2, h3, h4")) {
  if (!isShown(head)) continue;
  const own = Number(head.tagName[1]);
  if (own > level + 1) say(`heading after level ${level}`, head);
  level = own;
}
if (document.querySelectorAll("h1").length !== 1) say("not one first heading", document.body);
const ids = new Set();
for (const element of document.querySelectorAll("[id]")) {
  if (ids.has(element.id)) say("a name twice", element);
  ids.add(element.id);
}
return problems;
"#;

/// Fails if the page breaks a rule, in the light theme or the dark one.
pub fn expect_accessible(browser: &Browser, page: &str) {
    for theme in ["light", "dark"] {
        let script = format!("document.documentElement.dataset.theme = '{theme}'; {RULES}");
        let problems = browser.eval(&script);
        assert_eq!(problems, serde_json::json!([]), "{page}, {theme}");
    }
    // On a phone the page scrolls one way only.
    browser.eval("document.documentElement.dataset.theme = 'light'");
    let wide = browser.eval(
        "document.body.style.width = '360px'; document.body.style.overflowX = 'visible';
         await new Promise((done) => setTimeout(done, 300));
         const wide = [...document.querySelectorAll('main *')].filter((element) => !element.closest('.scroll, pre, .chart, svg') && element.getBoundingClientRect().right > 362 && element.checkVisibility());
         document.body.style.width = ''; document.body.style.overflowX = '';
         return wide.slice(0, 3).map((element) => element.outerHTML.slice(0, 160));",
    );
    assert_eq!(wide, serde_json::json!([]), "{page} is wider than a phone");
}
