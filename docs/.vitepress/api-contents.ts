import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { DefaultTheme } from 'vitepress';

/** The output of docs/api/generate.ts: the entry points of the packages with the pages of their exports. */
export type ApiContents = readonly {
  readonly text: string;
  /** Path below docs/reference/api. */
  readonly folder: string;
  readonly groups: readonly {
    readonly text: string;
    readonly items: readonly { readonly text: string; readonly page: string }[];
  }[];
}[];

const base = '/reference/api';
const file = fileURLToPath(new URL(`..${base}/contents.json`, import.meta.url));

/** Returns the contents of the API reference; empty before it is generated. */
export function apiContents(): ApiContents {
  return existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as ApiContents) : [];
}

/** Returns links to the index of all packages and to the index of each entry point. */
export function apiIndexes(contents: ApiContents): { text: string; link: string }[] {
  const indexes = contents.map(({ text, folder }) => ({ text, link: `${base}/${folder}/` }));
  return indexes.length > 0 ? [{ text: 'All packages', link: `${base}/` }, ...indexes] : [];
}

/** Returns a sidebar per entry point, with its exports and links to the other entry points. */
export function apiSidebars(contents: ApiContents): DefaultTheme.SidebarMulti {
  const indexes = apiIndexes(contents);
  const sidebars = contents.map(({ folder, groups }): [string, DefaultTheme.SidebarItem[]] => {
    const own = `${base}/${folder}/`;
    const exports = groups.map(({ text, items }, index) => ({
      text,
      collapsed: index > 0,
      items: items.map(({ text, page }) => ({ text, link: `${base}/${page.replace(/\.md$/, '')}` })),
    }));
    const items = indexes.map((entry) => (entry.link === own ? { ...entry, items: exports } : entry));
    return [own, [{ text: 'API', items }]];
  });
  return Object.fromEntries(sidebars);
}
