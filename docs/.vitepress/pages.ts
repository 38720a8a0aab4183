import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { apiContents, apiIndexes } from './api-contents.js';

/** Pages that belong together: the first heading of each, and its file below docs without the ending. */
export interface Section {
  readonly text: string;
  readonly items: readonly { readonly text: string; readonly link: string }[];
}

/** The one list of what the site holds, in reading order. A folder's pages that are not named here follow, by name. */
const contents: readonly { text: string; folder: string; first: readonly string[] }[] = [
  { text: 'Start', folder: '.', first: ['the-whole-idea', 'install', 'live'] },
  {
    text: 'Tutorials',
    folder: 'tutorials',
    first: [
      'lora',
      'adalora',
      'sora',
      'retrieval',
      'rerank',
      'tag-entities',
      'chat',
      'serve',
      'long-training',
      'own-model',
      'own-layers-model',
      'adapter-to-transformers-js',
      'compiled-training',
      'gpu',
    ],
  },
  { text: 'Methods', folder: 'methods', first: ['lora', 'adalora', 'sora'] },
  {
    text: 'Reference',
    folder: 'reference',
    first: ['cli', 'training', 'loading-models', 'tasks', 'pipelines', 'generation'],
  },
  { text: 'Benchmarks', folder: 'benchmarks', first: ['standard'] },
  { text: 'Contributing', folder: 'contributing', first: ['style', 'testing', 'add-a-method', 'add-a-network'] },
];

const docs = dirname(dirname(fileURLToPath(import.meta.url)));

/** Every page but the start page, of the API the indexes: the sidebar and the bar at the top are made of these. */
export function sections(): Section[] {
  const written = contents.map(({ text, folder, first }) => ({ text, items: pagesOf(folder, first) }));
  const place = contents.findIndex(({ text }) => text === 'Reference') + 1;
  return written.toSpliced(place, 0, { text: 'API', items: apiIndexes(apiContents()) });
}

function pagesOf(folder: string, first: readonly string[]): Section['items'] {
  const names = readdirSync(join(docs, folder))
    .filter((file) => file.endsWith('.md') && file !== 'index.md')
    .map((file) => file.slice(0, -'.md'.length))
    .sort();
  const ordered = [...first, ...names.filter((name) => !first.includes(name))];
  return ordered.map((name) => ({ text: headingOf(join(folder, `${name}.md`)), link: `/${join(folder, name)}` }));
}

function headingOf(page: string): string {
  return /^# (.+)$/m.exec(readFileSync(join(docs, page), 'utf8'))?.[1] ?? page;
}
