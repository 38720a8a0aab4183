import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createRng } from '@peftjs/core/method';
import axe from 'axe-core';
import type { Browser, Page } from 'playwright-core';
import type { PreviewServer } from 'vite';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { home, repository } from '../../docs/.vitepress/links.js';
import { temporaryFolder } from '../../tools/vitest/temporary-folder.js';
import { drawn } from '../fuzz/drawn.js';
import { root } from '../workspace/repository.js';
import { builtSite } from './built-site.js';
import { inChromium, openBrowser, visit, withoutChromium, type Visited } from './browser.js';
import { originOf, serve } from './serve.js';

/** The findings about a page. */
interface Visit extends Pick<Visited, 'complaints' | 'foreign'> {
  readonly ids: readonly string[];
  readonly links: readonly string[];
  /** Widths of windows, in pixels, in which the page overflows. */
  readonly tooWide: readonly number[];
}

const folder = temporaryFolder();
let site: string;
let pages: string[];
beforeAll(async () => {
  site = await builtSite(folder);
  pages = (await readdir(site, { recursive: true }))
    .filter((path) => path.endsWith('.html') && path !== '404.html')
    .sort();
}, 400_000);

it('the site has an index for every package and a page for every export', () => {
  expect(pages).toEqual(
    expect.arrayContaining([
      'index.html',
      'methods/sora.html',
      'reference/api/core/index.html',
      'reference/api/core/functions/train.html',
      'reference/api/core/nn/index.html',
    ]),
  );
});

it('generated pages have no edit link and no unnamed parameter', async () => {
  const text = (path: string) => readFile(join(site, path), 'utf8');
  expect(await text('methods/sora.html')).toContain('Edit this page');
  for (const path of pages.filter(isOfApi)) expect(await text(path)).not.toMatch(/Edit this page|__namedParameters/);
});

it('the page of a function has parameters, options, returns, throws, uses and a link to the source', async () => {
  const { ids, links } = await readPage(join(site, 'reference/api/core/functions/train.html'));
  expect(ids).toEqual(expect.arrayContaining(['parameters', 'options', 'returns', 'throws', 'in-use']));
  expect(links).toContainEqual(
    expect.stringMatching(`^${repository}/blob/main/packages/core/src/train/train\\.ts#L\\d+$`),
  );
});

it('llms.txt and sitemap.xml name every page', async () => {
  const addresses = pages.map((path) => home + path.replace(/(^|\/)index\.html$/, '$1'));
  for (const [file, before, after] of [
    ['llms.txt', '](', '): '],
    ['sitemap.xml', '<loc>', '</loc>'],
  ] as const) {
    const text = await readFile(join(site, file), 'utf8');
    expect(addresses.filter((address) => !text.includes(before + address + after))).toEqual([]);
  }
});

it('a link to a page is shown with a picture of the size that social networks ask for', async () => {
  const html = await readFile(join(site, 'methods/sora.html'), 'utf8');
  const [, address = ''] = /property="og:image" content="([^"]+)"/.exec(html) ?? [];
  const png = await readFile(join(site, address.slice(home.length)));
  expect([png.readUInt32BE(16), png.readUInt32BE(20)]).toEqual([1200, 630]); // width and height of the PNG header
});

describe(`every page, ${inChromium}`, () => {
  let server: PreviewServer | undefined;
  let browser: Browser | undefined;
  const visits = new Map<string, Visit>();

  beforeAll(async () => {
    if (withoutChromium) return;
    server = await serve(site);
    browser = await openBrowser();
    const opened = [...pages.filter((path) => !isOfApi(path)), ...sampleOf(pages.filter(isOfApi))];
    for (const path of pages) if (!opened.includes(path)) visits.set(`/${path}`, await readPage(join(site, path)));
    const queue = [...opened];
    const tour = async (browser: Browser) => {
      const visited = await visit(browser, origin(), (context) => context.addInitScript(SAVE_DATA));
      for (let path = queue.pop(); path !== undefined; path = queue.pop()) {
        await visited.open(origin() + path);
        visits.set(`/${path}`, await lookAt(visited));
      }
      await visited.page.context().close();
    };
    await Promise.all([browser, browser].map(tour));
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

  describe.skipIf(withoutChromium)('of each kind', () => {
    let visited: Visited;
    beforeAll(async () => {
      visited = await visit(browser as Browser, origin(), (context) =>
        context.addInitScript(`localStorage.setItem('vitepress-theme-appearance', 'light')`),
      );
    });

    describe.each(PAGES_OF_EACH_KIND)('/%s', (path) => {
      beforeAll(async () => {
        await visited.open(origin() + path);
        await visited.page.evaluate(axe.source);
      });

      it('meets WCAG 2.1 AA in the light theme', async () => {
        expect(await visited.page.evaluate<string[]>(violationsOf(WCAG))).toEqual([]);
      });

      it('meets the rules of WCAG 2.1 AA about colours once it is switched to the dark theme', async () => {
        await visited.page.click('.VPSwitchAppearance:visible');
        await visited.page.waitForSelector('html.dark');
        expect(await visited.page.evaluate<string[]>(violationsOf(WCAG_OF_COLOURS))).toEqual([]);
      });
    });
  });

  describe.skipIf(withoutChromium)('a search', () => {
    let page: Page;
    beforeAll(async () => {
      ({ page } = await visit(browser as Browser, origin()));
      await page.locator('.VPNavBarSearch button').first().click();
    });

    const foundFor = async (words: string): Promise<string[]> => {
      const results = page.locator('.VPLocalSearchBox a.result');
      await page.locator('.VPLocalSearchBox input').fill('');
      await results.first().waitFor({ state: 'detached' }); // those of other words
      await page.locator('.VPLocalSearchBox input').fill(words);
      await results.first().waitFor();
      return page.evaluate<string[]>(resultLinks);
    };

    it.each(['install', 'predict', 'budget', 'rank'])(
      'for %s finds a guide or a method first, and the API after them',
      async (word) => {
        const links = await foundFor(word);
        expect(links[0]).toMatch(/^\/(?:install|tutorials|guides|concepts|methods|reference(?!\/api))/);
        expect(links.map(isOfApi)).toEqual(links.map(isOfApi).sort());
      },
    );

    it.each(Object.entries(ANSWERS))('for %s finds %s first', async (words, answer) => {
      expect((await foundFor(words))[0]?.split(/[#.]/)[0]).toBe(answer);
    });
  });

  function leadsNowhere({ href, pathname, hash }: URL): boolean {
    const [, source] = href.split(`${repository}/blob/main/`);
    if (source !== undefined) return !existsSync(join(root, source.replace(/#.*/, '')));
    if (!href.startsWith(origin())) return false;
    const target = visits.get(pathname.endsWith('/') ? `${pathname}index.html` : pathname);
    if (!target) return !existsSync(join(site, pathname));
    return hash !== '' && !target.ids.includes(decodeURIComponent(hash.slice(1)));
  }
});

/** The page that answers what people search for. */
const ANSWERS = {
  'which method': '/guides/choose',
  'which rank': '/guides/choose',
  'which learning rate': '/guides/choose',
  'does not learn': '/guides/choose',
  'my CSV': '/tutorials/lora',
  chat: '/guides/chat',
  pictures: '/guides/images',
  browser: '/guides/where-it-runs',
  'Next.js': '/guides/where-it-runs',
  Bun: '/guides/where-it-runs',
  Deno: '/guides/where-it-runs',
  Electron: '/guides/where-it-runs',
  GPU: '/guides/gpu',
  serve: '/guides/serve',
  Ollama: '/guides/gguf',
  production: '/guides/where-it-runs',
  embedding: '/guides/retrieval',
  ONNX: '/reference/onnx',
} as const;

function isOfApi(path: string): boolean {
  return /^\/?reference\/api\//.test(path);
}

/** Returns a fixed random sample of pages. */
function sampleOf(paths: readonly string[]): string[] {
  return [...createRng(7).permutation(paths.length).slice(0, drawn(40))].map((index) => paths[index] as string);
}

/** Reads the ids and links of a page without a browser. */
async function readPage(file: string): Promise<Visit> {
  const html = await readFile(file, 'utf8');
  const attributes = (pattern: RegExp) =>
    [...html.matchAll(pattern)].map(([, value = '']) => value.replaceAll('&amp;', '&'));
  return {
    ids: attributes(/\sid="([^"]+)"/g),
    links: attributes(/<a\s[^>]*href="([^"]+)"/g),
    complaints: [],
    foreign: [],
    tooWide: [],
  };
}

/** Runs before a page: it then does not prefetch the pages that it links to, whose own turn comes. */
const SAVE_DATA = `Object.defineProperty(navigator.connection, 'saveData', { value: true })`;

/** Inspects a page, and takes what was found since the last one. */
async function lookAt({ page, complaints, foreign }: Visited): Promise<Visit> {
  const tooWide: number[] = [];
  for (const width of WIDTHS) {
    await page.setViewportSize({ width, height: 844 });
    if (await page.evaluate<boolean>(isTooWide)) tooWide.push(width);
  }
  const seen = await page.evaluate<Pick<Visit, 'ids' | 'links'>>(lookRound);
  return { complaints: complaints.splice(0), foreign: foreign.splice(0), tooWide, ...seen };
}

const PAGES_OF_EACH_KIND = [
  ...['', 'install', 'tutorials/lora', 'methods/sora', 'benchmarks/standard', 'reference/cli', 'live'],
  'reference/api/core/functions/train',
];

/** Left out are rules that VitePress breaks: its sidebar nests buttons, its search is named otherwise than it reads. */
const WCAG = {
  runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa'],
  rules: { 'nested-interactive': { enabled: false }, 'label-content-name-mismatch': { enabled: false } },
};
/** The rules that a theme, which changes only colours, can break. */
const WCAG_OF_COLOURS = { runOnly: ['color-contrast', 'link-in-text-block'] };

/** Runs in the page. */
const violationsOf = (rules: object) => `axe
  .run(document, ${JSON.stringify({ ...rules, resultTypes: ['violations'] })})
  .then(({ violations }) => violations.flatMap(({ id, nodes }) => nodes.map(({ target }) => id + ': ' + target.join(' '))))`;

/** Widths of a phone, a tablet and a desktop screen, in pixels. */
const WIDTHS = [390, 768, 1280];
const isTooWide = 'document.documentElement.scrollWidth > document.documentElement.clientWidth';

/** Runs in the page, as does `lookRound`. */
const resultLinks = `[...document.querySelectorAll('.VPLocalSearchBox a.result')].map((link) => link.getAttribute('href'))`;

const lookRound = `({
  ids: [...document.querySelectorAll('[id]')].map(({ id }) => id),
  links: [...document.querySelectorAll('a[href]')].map((link) => link.getAttribute('href')),
})`;
