import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { DefaultTheme } from 'vitepress';

/** What docs/api/generate.ts has written: the entries of the packages with the pages of their exports. */
export type ApiContents = readonly {
  readonly text: string;
  /** Below docs/reference/api. */
  readonly folder: string;
  readonly groups: readonly {
    readonly text: string;
    readonly items: readonly { readonly text: string; readonly page: string }[];
  }[];
}[];

const base = '/reference/api';
const file = fileURLToPath(new URL(`..${base}/contents.json`, import.meta.url));

/** The contents of the reference; none before it is generated. */
export function apiContents(): ApiContents {
  return existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as ApiContents) : [];
}

/** Where the index of all packages and that of each entry is. */
export function apiIndexes(contents: ApiContents): { text: string; link: string }[] {
  const indexes = contents.map(({ text, folder }) => ({ text, link: `${base}/${folder}/` }));
  return indexes.length > 0 ? [{ text: 'All packages', link: `${base}/` }, ...indexes] : [];
}

/** A sidebar for the pages of each entry: its exports are listed, of other entries the index alone. */
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
