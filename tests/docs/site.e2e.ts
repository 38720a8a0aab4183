import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Browser } from 'playwright-core';
import type { PreviewServer } from 'vite';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { root } from '../workspace/repository.js';
import { inChromium, openBrowser, visit, withoutChromium, type Visited } from './browser.js';
import { describeLivePage } from './live-page.js';
import { originOf, serve } from './serve.js';

/** The findings about a page. */
interface Visit extends Pick<Visited, 'complaints' | 'foreign'> {
  readonly ids: readonly string[];
  readonly links: readonly string[];
  /** Widths of windows, in pixels, in which the page overflows. */
  readonly tooWide: readonly number[];
}

/** The site that .ci/check has built, so that it is not built again. */
const built = process.env.PEFTJS_SITE;

let site: string;
let pages: string[];
beforeAll(async () => {
  site = built ?? (await mkdtemp(join(tmpdir(), 'peftjs-site-')));
  if (built === undefined)
    await promisify(execFile)('npm', ['run', '-s', '-w', 'docs', 'site', '--', '--outDir', site], { cwd: root });
  pages = (await readdir(site, { recursive: true }))
    .filter((path) => path.endsWith('.html') && path !== '404.html')
    .sort();
}, 400_000);
afterAll(async () => {
  if (built === undefined) await rm(site, { recursive: true });
});

it('the site is built, with a page for every package', () => {
  expect(pages).toEqual(
    expect.arrayContaining([
      'index.html',
      'methods/sora.html',
      'reference/api/core.html',
      'reference/api/core/nn.html',
    ]),
  );
});

describe(`every page, ${inChromium}`, () => {
  let server: PreviewServer | undefined;
  let browser: Browser | undefined;
  const visits = new Map<string, Visit>();

  beforeAll(async () => {
    if (withoutChromium) return;
    server = await serve(site);
    browser = await openBrowser();
    const waiting = [...pages];
    const tour = async (opened: Browser) => {
      for (let path = waiting.pop(); path !== undefined; path = waiting.pop()) {
        visits.set(`/${path}`, await lookAt(await visit(opened, origin() + path)));
      }
    };
    await Promise.all([browser, browser, browser, browser].map(tour));
  }, 400_000);
  afterAll(async () => {
    await browser?.close();
    await server?.close();
  });

  const origin = () => originOf(server);
  const found = (what: (seen: Visit, path: string) => readonly string[]) =>
    [...visits].flatMap(([path, seen]) => what(seen, path).map((text) => `${path}: ${text}`));

  it.skipIf(withoutChromium)('opens without errors on the console', () => {
    expect(visits.size).toBe(pages.length);
    expect(found(({ complaints }) => complaints)).toEqual([]);
  });

  it.skipIf(withoutChromium)('requests nothing from other hosts', () => {
    expect(found(({ foreign }) => foreign)).toEqual([]);
  });

  it.skipIf(withoutChromium)('only links to pages and headings that exist', () => {
    expect(
      found(({ links }, path) => links.filter((link) => leadsNowhere(new URL(link, origin() + path.slice(1))))),
    ).toEqual([]);
  });

  it.skipIf(withoutChromium)('fits a phone, a tablet and a desktop screen', () => {
    expect(found(({ tooWide }) => tooWide.map(String))).toEqual([]);
  });

  function leadsNowhere({ href, pathname, hash }: URL): boolean {
    if (!href.startsWith(origin())) return false;
    const target = visits.get(pathname.endsWith('/') ? `${pathname}index.html` : pathname);
    if (!target) return !existsSync(join(site, pathname));
    return hash !== '' && !target.ids.includes(decodeURIComponent(hash.slice(1)));
  }
});

describeLivePage(() => site);

/** Waits until a page is idle, inspects it and closes it. */
async function lookAt({ page, complaints, foreign }: Visited): Promise<Visit> {
  await page.waitForLoadState('networkidle');
  const tooWide: number[] = [];
  for (const width of WIDTHS) {
    await page.setViewportSize({ width, height: 844 });
    if (await page.evaluate<boolean>(isTooWide)) tooWide.push(width);
  }
  const seen = await page.evaluate<Pick<Visit, 'ids' | 'links'>>(lookRound);
  await page.context().close();
  return { complaints, foreign, tooWide, ...seen };
}

/** Widths of a phone, a tablet and a desktop screen, in pixels. */
const WIDTHS = [390, 768, 1280];
const isTooWide = 'document.documentElement.scrollWidth > document.documentElement.clientWidth';

/** Runs in the page. */
const lookRound = `({
  ids: [...document.querySelectorAll('[id]')].map(({ id }) => id),
  links: [...document.querySelectorAll('a[href]')].map((link) => link.getAttribute('href')),
})`;
