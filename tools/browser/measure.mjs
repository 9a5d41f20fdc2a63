// measure runs in the page. It returns how many pixels the document is wider than the window,
// the texts that are cut and not to be scrolled to, the pairs of texts that lie over each other,
// and how many texts it looked at. A text is a text node, or a <text> of SVG; the boxes are
// those that the browser draws, clipped by what scrolls. On paper nothing scrolls.
export function measure(paper = false) {
  const words = (s) => s.replace(/\s+/g, ' ').trim().slice(0, 60);
  const clips = new Map(); // element to the boxes that clip it
  const clipsOf = (e) => {
    if (!e || e === document.body || e === document.documentElement) return [];
    let known = clips.get(e);
    if (known) return known;
    known = clipsOf(e.parentElement);
    const s = getComputedStyle(e);
    if ((s.overflowX !== 'visible' || s.overflowY !== 'visible') && (s.display !== 'inline' || e.tagName === 'svg') && s.display !== 'contents') {
      const b = e.getBoundingClientRect();
      known = [...known, { x0: b.left, x1: b.right, y0: b.top, y1: b.bottom, scrolls: !paper && /auto|scroll/.test(s.overflowX + s.overflowY) }];
    }
    clips.set(e, known);
    return known;
  };
  const boxes = [], cut = [];
  // No callback of ours may run where scripts are blocked, so this walks by itself.
  const texts = [];
  const walk = (e) => {
    for (let n = e.firstChild; n; n = n.nextSibling) {
      if (n.nodeType === 3 && n.data.trim()) texts.push(n);
      if (n.nodeType !== 1 || /^(script|style|option|desc|title)$/i.test(n.tagName)) continue;
      // What a clip-path makes invisible is for screen readers.
      if (n.checkVisibility() && getComputedStyle(n).clipPath === 'none') walk(n);
    }
  };
  walk(document.body);
  let id = 0;
  const range = document.createRange();
  for (const n of texts) {
    const e = n.parentElement, svg = e.closest('svg text');
    range.selectNodeContents(n);
    const rects = svg ? [svg.getBoundingClientRect()] : range.getClientRects();
    id++;
    let isCut = false;
    for (const r of rects) {
      if (r.width < 1 || r.height < 1 || r.right <= 0 || r.left < -900) continue; // the skip link waits beyond the left edge
      const box = { id, x0: r.left, x1: r.right, y0: r.top, y1: r.bottom, text: words(n.data), of: svg || e };
      let scrolled = false;
      for (const c of [...clipsOf(e)].reverse()) {
        // A letter's own box is higher than its ink: a few pixels are not missed.
        const out = Math.max(c.x0 - box.x0, box.x1 - c.x1) > 1.5 || Math.max(c.y0 - box.y0, box.y1 - c.y1) > 4;
        if (c.scrolls) scrolled = true;
        if (out && !scrolled) isCut = true;
        box.x0 = Math.max(box.x0, c.x0); box.x1 = Math.min(box.x1, c.x1);
        box.y0 = Math.max(box.y0, c.y0); box.y1 = Math.min(box.y1, c.y1);
      }
      if (box.x1 - box.x0 > 1 && box.y1 - box.y0 > 1) boxes.push(box);
    }
    if (isCut) cut.push(words(n.data));
  }
  boxes.sort((a, b) => a.y0 - b.y0);
  const overlaps = [];
  let open = [];
  for (const b of boxes) {
    open = open.filter((a) => a.y1 > b.y0);
    for (const a of open) {
      if (a.id === b.id || a.of === b.of && a.of.namespaceURI.endsWith('svg')) continue;
      const x = Math.min(a.x1, b.x1) - Math.max(a.x0, b.x0), y = Math.min(a.y1, b.y1) - Math.max(a.y0, b.y0);
      // Lines set close together share a little of the space above and below their letters.
      if (x > 2 && y > 0.4 * Math.min(a.y1 - a.y0, b.y1 - b.y0)) overlaps.push(`${a.text} × ${b.text}`);
    }
    open.push(b);
  }
  const html = document.documentElement;
  return { document: Math.max(0, html.scrollWidth - html.clientWidth), cut: cut.slice(0, 8), overlaps: overlaps.slice(0, 8), texts: boxes.length };
}
