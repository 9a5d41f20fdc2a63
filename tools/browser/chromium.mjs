// Debian's Chromium, and what every page that is opened in it has to hold: a silent console, no
// request elsewhere, no text cut or over another, nothing that axe-core calls serious, and a
// keyboard that reaches everything.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { chromium } from 'playwright-core';
import { measure } from './measure.mjs';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const screenshots = resolve(process.env.SCREENSHOTS);

export const phones = [320, 390];
export const desks = [768, 1280, 1920];
const height = 900;

// Chromium is a browser. Containers of a CI have a small /dev/shm, in which a page of 10,000 rows
// would crash.
export class Chromium {
  #browser;
  #pages = new Map(); // by what a context of the browser fixes

  async launch() {
    this.#browser = await chromium.launch({
      executablePath: '/usr/bin/chromium',
      args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
    });
    return this;
  }

  close() { return this.#browser?.close(); }

  // A window takes a second of a processor to open, so pages that differ in size and colours
  // only are shown in the same one. Nothing of theirs is kept there but what they store.
  async #page(context) {
    const key = JSON.stringify(context);
    if (!this.#pages.has(key)) {
      const made = await this.#browser.newContext({ viewport: { width: 1280, height }, reducedMotion: 'reduce', ...context });
      made.setDefaultTimeout(300_000); // only what hangs; a busy machine is slow
      this.#pages.set(key, await made.newPage());
    }
    return [key, this.#pages.get(key)];
  }

  // open shows url to use. It fails on everything that the console says meanwhile, unless it
  // matches meant, and on every request that is not for own or below it.
  async open(url, { width = 1280, scheme = 'light', media = 'screen', own = url, meant = /(?!)/, ...context }, use) {
    const [key, page] = await this.#page(context);
    const wrong = [];
    const watched = {
      console: (m) => { if (['error', 'warning'].includes(m.type()) && !meant.test(m.text())) wrong.push(m.text()); },
      pageerror: (e) => wrong.push(String(e)),
      request: (r) => { if (!r.url().startsWith(own)) wrong.push(`asks for ${r.url()}`); },
      dialog: (d) => { wrong.push(`a dialog: ${d.message()}`); d.dismiss(); },
    };
    try {
      await resize(page, width);
      await page.emulateMedia({ colorScheme: scheme, media });
      for (const [event, listener] of Object.entries(watched)) page.on(event, listener);
      await page.goto(url);
      await use(page);
      for (const [event, listener] of Object.entries(watched)) page.off(event, listener);
      await page.goto('about:blank');
    } catch (e) {
      this.#pages.delete(key); // who knows what it is in
      await page.context().close();
      throw e;
    }
    assert.deepEqual(wrong, [], `${url} in the console`);
  }
}

// resize sets the width that a page is seen at.
export const resize = (page, width) => page.setViewportSize({ width, height });

// fits fails on texts that are cut or over each other, and on a page that is wider than its
// window. The page has to have more texts than least, so that an empty one does not pass. On
// paper nothing can be scrolled to.
export async function fits(page, what, least = 20, paper = false) {
  const found = await page.evaluate(measure, paper);
  assert.ok(found.texts > least, `${what}: only ${found.texts} texts were measured`);
  assert.equal(found.document, 0, `${what}: the document is wider than the window by`);
  assert.deepEqual(found.cut, [], `${what}: cut texts`);
  assert.deepEqual(found.overlaps, [], `${what}: texts over each other`);
}

// accessible fails on what axe-core finds serious or critical. Given rules it asks for those only.
export async function accessible(page, what, rules) {
  if (!await page.evaluate(() => 'axe' in window)) await page.evaluate(axe);
  const found = await page.evaluate(async (rules) => {
    const result = await window.axe.run(document, { resultTypes: ['violations'], preload: false, ...rules && { runOnly: rules } });
    return result.violations.filter((v) => ['serious', 'critical'].includes(v.impact))
      .map((v) => `${v.id}: ${v.help}: ${v.nodes.slice(0, 3).map((n) => n.html.slice(0, 200)).join(' | ')} (${v.nodes.length})`);
  }, rules);
  assert.deepEqual(found, [], `${what}: violations`);
}

// readableInTheDark asks axe-core for what colours decide.
export async function readableInTheDark(page, what) {
  await page.emulateMedia({ colorScheme: 'dark' });
  await accessible(page, `${what}, dark`, ['color-contrast']);
  await page.emulateMedia({ colorScheme: 'light' });
}

// picture keeps what a page looks like, its first 6,000 px. The window is made as high as that:
// Chromium's own picture of a whole page takes 10 to 20 s where a name has 10 kB; this takes one.
export async function picture(page, name, width, scheme) {
  await page.emulateMedia({ colorScheme: scheme });
  await page.setViewportSize({ width, height: Math.min(6000, await page.evaluate(() => document.documentElement.scrollHeight)) });
  await page.screenshot({ path: join(screenshots, `${name}-${width}-${scheme}.png`) });
  await page.emulateMedia({ colorScheme: 'light' });
  await resize(page, width);
}

// walk goes through a page by Tab. Every stop has to be reached, in sight, and marked.
export async function walk(page) {
  const stops = await page.evaluate(() => {
    let n = 0;
    for (const e of document.querySelectorAll('a[href], button, select, input, textarea, summary, [tabindex="0"]')) {
      if (e.checkVisibility() && e.type !== 'hidden') e.dataset.stop = n++;
    }
    return n;
  });
  const reached = new Set();
  // A field of a date has a stop for each of its parts.
  for (let i = 0; i < 4 * stops + 10 && reached.size < stops; i++) {
    await page.keyboard.press('Tab');
    const stop = await page.evaluate(() => {
      const e = document.activeElement;
      const s = getComputedStyle(e), box = e.getBoundingClientRect();
      return { n: e.dataset.stop, name: e.outerHTML.slice(0, 120), shown: s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2, in: box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth };
    });
    if (stop.n === undefined) continue;
    reached.add(stop.n);
    assert.ok(stop.shown && stop.in, `the focus cannot be seen: ${stop.name}`);
  }
  assert.equal(reached.size, stops, 'stops that Tab reaches');
}
