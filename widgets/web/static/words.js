// In the document's head, after the words themselves: `parallelLab.word("loss")` is a word of `text.BENCH` in the
// language of now, and `parallelLab.fill(element)` fills in every %{word} of an element, anew at each change.
//
// The language is the one that the address asks for (?lang=zh), or that the reader chose last, or the browser's.
window.parallelLab = (() => {
  const key = "parallel-lab-language";
  const known = (language) => (language in parallelLabWords ? language : null);
  const stored = () => {
    try {
      return known(localStorage.getItem(key));
    } catch {
      return null; // storage may be forbidden
    }
  };
  const ofBrowser = () => {
    const wanted = (navigator.languages ?? [navigator.language]).map((tag) => known(tag.split("-")[0].toLowerCase()));
    return wanted.find(Boolean) ?? "en";
  };
  let now = known(new URLSearchParams(location.search).get("lang")) ?? stored() ?? ofBrowser();
  const filled = []; // [node, what it says with its %{words}]
  const word = (name) => parallelLabWords[now][name];
  const say = (node, pattern) => (node.nodeValue = pattern.replace(/%\{(\w+)\}/g, (_, name) => word(name)));

  function fill(root) {
    const texts = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) note(texts.currentNode);
    for (const element of [root, ...root.querySelectorAll("*")]) [...element.attributes].forEach(note);
  }
  function note(node) {
    if (!node.nodeValue.includes("%{")) return;
    filled.push([node, node.nodeValue]);
    say(node, node.nodeValue);
  }
  function mark() {
    document.documentElement.lang = { en: "en", zh: "zh-CN" }[now];
    document.title = word("title");
  }
  mark();
  // Gradio names the document when it is ready, in English.
  new MutationObserver(() => document.title !== word("title") && mark()).observe(document.head, { childList: true, subtree: true });

  return {
    word,
    fill,
    // Without an argument: which language it is. With one: choose it.
    language(chosen) {
      if (!known(chosen)) return now;
      now = chosen;
      try {
        localStorage.setItem(key, chosen);
      } catch {
        /* then it lasts as long as the page */
      }
      // What the reader chooses goes before what the address asked for.
      const address = new URL(location.href);
      address.searchParams.delete("lang");
      history.replaceState(history.state, "", address);
      mark();
      for (const [node, pattern] of filled) say(node, pattern);
      document.dispatchEvent(new CustomEvent("parallel-lab:language", { detail: now }));
      return now;
    },
  };
})();
