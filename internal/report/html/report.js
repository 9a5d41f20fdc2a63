/* Comfort only: without this everything is on the page. */
(function () {
  'use strict';
  var d = document, root = d.documentElement;
  root.classList.add('js');
  function all(s, r) { return Array.prototype.slice.call((r || d).querySelectorAll(s)); }
  function store(k, v) { try { if (v === undefined) return localStorage.getItem(k); localStorage.setItem(k, v); } catch (e) { return null; } }

  /* light and dark: the system's unless somebody chose */
  var chosen = store('driftwatch-theme');
  if (chosen === 'light' || chosen === 'dark') root.setAttribute('data-theme', chosen);
  all('[data-theme-toggle]').forEach(function (b) {
    b.addEventListener('click', function () {
      var dark = root.getAttribute('data-theme') || (matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light');
      var next = dark === 'dark' ? 'light' : 'dark';
      root.setAttribute('data-theme', next);
      store('driftwatch-theme', next);
    });
  });
  /* a report that is not over is read anew, unless somebody is writing about it */
  var every = parseInt(root.getAttribute('data-refresh'), 10);
  if (every) setInterval(function () { if (!all('textarea').some(function (t) { return t.value; })) location.reload(); }, every * 1000);
  all('[data-print]').forEach(function (b) { b.addEventListener('click', function () { print(); }); });

  all('[data-copy]').forEach(function (b) {
    b.addEventListener('click', function () {
      var t = d.getElementById(b.getAttribute('data-copy')).textContent.replace(/\s+/g, ' ').trim();
      function done() { var o = b.textContent; b.textContent = 'Copied'; setTimeout(function () { b.textContent = o; }, 1400); }
      if (navigator.clipboard) { navigator.clipboard.writeText(t).then(done, function () {}); return; }
      var a = d.createElement('textarea'); a.value = t; d.body.appendChild(a); a.select(); d.execCommand('copy'); a.remove(); done();
    });
  });

  /* filters over the table and the folds below it */
  all('[data-filter]').forEach(function (box) {
    var panel = d.getElementById(box.getAttribute('data-filter')), q = box.querySelector('input[type=search]'),
      sig = box.querySelector('select'), chips = all('.chip', box), live = box.querySelector('[aria-live]'), whole = live && live.textContent, none = panel.querySelector('.none');
    var blocks = all('tbody[data-v]', panel), rows = null, timer = 0;
    function read() {
      rows = blocks.map(function (tb) {
        return { tb: tb, v: tb.getAttribute('data-v'), trs: Array.prototype.filter.call(tb.rows, function (tr) { return !tr.classList.contains('grp'); }).map(function (tr) {
          var name = tr.querySelector('th'), s = name.nextElementSibling;
          return { tr: tr, t: name.textContent.toLowerCase(), s: s ? s.textContent : '' };
        }) };
      });
    }
    function grouped(n) { return n < 1e4 ? String(n) : String(n).replace(/\B(?=(\d{3})+$)/g, ' '); }
    function run(first) {
      if (!rows) read();
      var on = chips.filter(function (c) { return c.getAttribute('aria-pressed') === 'true'; }).map(function (c) { return c.value; });
      var text = q ? q.value.toLowerCase() : '', want = sig ? sig.value : '', shown = 0, total = 0, narrowed = on.length || text || want;
      rows.forEach(function (b) {
        var any = 0, may = !on.length || on.indexOf(b.v) >= 0;
        b.trs.forEach(function (r) {
          var ok = may && (!text || r.t.indexOf(text) >= 0) && (!want || r.s === want);
          if (r.tr.hidden === ok) r.tr.hidden = !ok;
          total++; if (ok) { any++; shown++; }
        });
        b.tb.hidden = !any; b.any = any;
      });
      all('details.more', panel).reverse().forEach(function (f) {
        var any = rows.some(function (b) { return b.any && f.contains(b.tb); });
        f.hidden = !any;
        if (narrowed && any && shown <= 500 && first !== true) { if (!f.open) { f.open = true; f.opened = true; } } else if (!narrowed && f.opened) { f.open = false; f.opened = false; }
      });
      if (live) live.textContent = narrowed ? grouped(shown) + ' of ' + grouped(total) + ' shown' : whole;
      if (none) none.hidden = shown > 0;
    }
    chips.forEach(function (c) { c.addEventListener('click', function () { c.setAttribute('aria-pressed', c.getAttribute('aria-pressed') !== 'true'); run(); }); });
    if (sig) sig.addEventListener('input', run);
    if (q) q.addEventListener('input', function () { clearTimeout(timer); timer = setTimeout(run, 120); });
    if (matchMedia('(max-width: 720px)').matches && chips.length > 1 && blocks.length) {
      var small = chips.some(function (c) { return c.value !== 'eqv'; });
      if (small) { chips.forEach(function (c) { c.setAttribute('aria-pressed', String(c.value !== 'eqv')); }); run(true); }
    }

    /* sorting within a group: worst first is the order of the page, a third click brings it back */
    all('th[data-sort]', panel).forEach(function (th) {
      var b = d.createElement('button'); b.type = 'button'; b.className = 'sort';
      while (th.firstChild) b.appendChild(th.firstChild);
      th.appendChild(b);
      b.addEventListener('click', function () {
        var was = th.getAttribute('aria-sort'), dir = was === 'descending' ? 'ascending' : was === 'ascending' ? '' : 'descending', i = th.cellIndex;
        all('th[aria-sort]', th.closest('table')).forEach(function (o) { o.removeAttribute('aria-sort'); });
        if (dir) th.setAttribute('aria-sort', dir);
        Array.prototype.forEach.call(th.closest('table').tBodies, function (tb) {
          var trs = Array.prototype.filter.call(tb.rows, function (tr) { return !tr.classList.contains('grp'); });
          trs.forEach(function (tr, k) { if (tr.home === undefined) tr.home = k; });
          function key(tr) { var s = tr.cells[i].textContent.replace(/\u2212/g, '-').replace(/\u2009|\u00a0|\s/g, ''), n = parseFloat(s.replace(/^[<>+]/, '')); return isNaN(n) ? (th.getAttribute('data-sort') === 'n' ? -Infinity : s) : (th.getAttribute('data-sort') === 'n' ? n : s); }
          trs.sort(function (a, b) {
            if (!dir) return a.home - b.home;
            var x = key(a), y = key(b), c = x < y ? -1 : x > y ? 1 : a.home - b.home;
            return dir === 'descending' ? -c : c;
          });
          trs.forEach(function (tr) { tb.appendChild(tr); });
        });
      });
    });
  });

  /* one crosshair through every time panel of a card; arrow keys move it, the table is what it reads */
  all('[data-series]').forEach(function (box) {
    var table = d.getElementById(box.getAttribute('data-series'));
    if (!table) return;
    var head = all('thead th', table).map(function (c) { return c.textContent; }), rows = all('tbody tr', table), areas = all('.pa', box), out = box.querySelector('.read'), idle = out.textContent, at = -1;
    var from = parseFloat(table.getAttribute('data-from')), to = parseFloat(table.getAttribute('data-to'));
    areas.forEach(function (a) { var c = d.createElement('div'); c.className = 'cross'; a.appendChild(c); });
    function show(i) {
      if (i < 0 || !rows.length) { box.classList.remove('on'); out.textContent = idle; at = -1; return; }
      at = Math.max(0, Math.min(rows.length - 1, i)); box.classList.add('on');
      areas.forEach(function (a) { a.querySelector('.cross').style.left = (from + (at + .5) / rows.length * (to - from)) * 100 + '%'; });
      out.textContent = Array.prototype.map.call(rows[at].cells, function (c, k) { return (k ? head[k] : 'until') + ' ' + c.textContent; }).join(', ');
    }
    areas.forEach(function (a) {
      a.addEventListener('pointermove', function (e) { var b = a.getBoundingClientRect(), x = (e.clientX - b.left) / b.width; show(Math.floor((x - from) / (to - from) * rows.length)); });
      a.addEventListener('pointerleave', function () { show(-1); });
    });
    box.addEventListener('keydown', function (e) {
      var k = { ArrowRight: 1, ArrowLeft: -1, PageDown: 10, PageUp: -10 }[e.key];
      if (k) { show(at < 0 ? Math.floor(rows.length / 2) : at + k); e.preventDefault(); } else if (e.key === 'Escape') show(-1);
    });
    box.addEventListener('blur', function () { show(-1); });
  });
})();
