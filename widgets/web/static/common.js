// What the instruments' scripts share. Together they are the body of one function, which has `element`, `props`,
// `trigger` and `watch` from gr.HTML.
const at = (path) => new URL(path, document.baseURI).href;
const find = (selector, root = element) => root.querySelector(selector);
const calm = () => window.matchMedia("(prefers-reduced-motion: reduce)").matches;
const cards = Object.fromEntries([...element.querySelectorAll("[data-figure]")].map((card) => [card.dataset.figure, card]));
const plotOf = (name) => find("[data-plot]", cards[name]);
let frame = null; // what the server has said so far

/** Sets a text only if it differs: a screen reader would read it again, and a selection would be lost. */
function write(node, text) {
  if (node && node.textContent !== text) node.textContent = text;
}

function make(tag, { text, ...attributes } = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  node.append(...children);
  return node;
}

/** Fills a list of choices, and leaves it alone while the reader has it open. */
function offer(select, choices, chosen) {
  const key = JSON.stringify(choices);
  if (select.dataset.key !== key) {
    select.dataset.key = key;
    select.replaceChildren(...choices.map(([value, text]) => make("option", { value, text })));
  }
  if (select.value !== String(chosen) && document.activeElement !== select) select.value = String(chosen);
}
