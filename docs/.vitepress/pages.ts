import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { apiContents, apiIndexes } from './api-contents.js';

/** A section of pages: the first heading of each, and its path below docs without the extension. */
export interface Section {
  readonly text: string;
  readonly items: readonly { readonly text: string; readonly link: string }[];
}

/** A section's pages: those of `first` in reading order, then the other pages of its folder by name. */
interface Contents {
  readonly text: string;
  readonly folder: string;
  /** Paths below docs, without the extension; they may be from other folders. */
  readonly first: readonly string[];
}

/** Every section of the site, in reading order. */
const contents: readonly Contents[] = [
  { text: 'Getting started', folder: 'tutorials', first: ['install', 'tutorials/lora', 'tutorials/sora', 'live'] },
  {
    text: 'Guides',
    folder: 'guides',
    first: [
      'guides/choose',
      'guides/where-it-runs',
      'guides/serve',
      'guides/confidence',
      'guides/retrieval',
      'guides/rerank',
      'guides/tag-entities',
      'guides/images',
      'guides/chat',
      'guides/preferences',
      'guides/distil',
      'guides/gguf',
      'guides/own-model',
      'guides/own-layers-model',
      'guides/adapter-to-transformers-js',
      'guides/tune-served',
      'guides/long-training',
    ],
  },
  { text: 'Concepts', folder: 'concepts', first: ['concepts/the-whole-idea', 'concepts/ranks-and-budgets'] },
  { text: 'Methods', folder: 'methods', first: ['methods/sora', 'methods/lora', 'methods/adalora'] },
  { text: 'Benchmarks', folder: 'benchmarks', first: ['benchmarks/standard'] },
  {
    text: 'Reference',
    folder: 'reference',
    first: ['cli', 'training', 'data', 'loading-models', 'tasks', 'pipelines', 'generation'].map(
      (page) => `reference/${page}`,
    ),
  },
  {
    text: 'Contributing',
    folder: 'contributing',
    first: ['style', 'testing', 'add-a-method', 'add-a-network'].map((page) => `contributing/${page}`),
  },
];

const docs = dirname(dirname(fileURLToPath(import.meta.url)));

/** Returns all pages except the start page, for the sidebar and the top bar; the API has only its indexes. */
export function sections(): Section[] {
  const written = contents.map(({ text, folder, first }) => ({ text, items: pagesOf(folder, first) }));
  const place = contents.findIndex(({ text }) => text === 'Reference') + 1;
  return written.toSpliced(place, 0, { text: 'API', items: apiIndexes(apiContents()) });
}

function pagesOf(folder: string, first: readonly string[]): Section['items'] {
  const names = readdirSync(join(docs, folder))
    .filter((file) => file.endsWith('.md'))
    .map((file) => join(folder, file.slice(0, -'.md'.length)))
    .sort();
  const pages = [...first, ...names.filter((name) => !first.includes(name))];
  return pages.map((page) => ({ text: headingOf(`${page}.md`), link: `/${page}` }));
}

function headingOf(page: string): string {
  return /^# (.+)$/m.exec(readFileSync(join(docs, page), 'utf8'))?.[1] ?? page;
}
