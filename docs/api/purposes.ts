import { dirname, join, relative } from 'node:path/posix';
import type { DeclarationReflection } from 'typedoc';
import type { Entry } from './entries.js';

/** Purposes by path of the source. Any other export's purpose is the name of its folder or package. */
const purposes: readonly (readonly [purpose: string, paths: RegExp])[] = [
  ['Ranks and budgets', /^adapter\/(?:ranks|budget|within-budget)/],
  ['Counting', /^adapter\/accounting/],
  ['Targets', /^adapter\/targets/],
  ['Factors', /^(?:adapter\/(?:factors|layers)|linalg)/],
  ['Adapters', /^adapter/],
  ['Methods, models and executors', /^(?:contracts|architecture$)/],
  ['Checks of options', /^(?:config|settings)$/],
  ['The head and its labels', /^head$/],
  ['Weights in few bits', /^quantized$/],
  ['Tensors', /^(?:tensors|numerics)/],
  ['Files and storage', /^(?:files|storage|checkpoint|source|folder)/],
  ['Training', /^train(?!s)/],
  ['Programs', /^(?:runtime|compiled)/],
  ['Neural networks', /^(?:nn|encoder|rotary-decoder|decoder|pooling|rope)/],
  ['Text', /^(?:tokenizer|chat-template|token-spans|context|encode)/],
  ['Hugging Face Hub', /^hub/],
  ['Reading configurations', /^transformers/],
  ['Data sets of other sites', /^(?:glue|trec|published|embedded)/],
  ['Reading tables', /^(?:table|read-|columns|parquet)/],
  ['Rows and their batches', /^(?:data-set|batches|split|rows|repeats|language)/],
  ['Metrics and evaluation', /^(?:metrics|causal-evaluation|evaluation|embedding-evaluation|task$)/],
  ['Tasks', /-(?:classification|extraction|generation|ranking)$|^(?:entities|embeddings|scores)/],
  ['Pipelines', /^(?:pipeline|inference|call-options)/],
];

/** Returns the purpose of a declaration, from the path of its source below the entry's folder or its own package. */
export function purposeOf(entry: Entry, { sources }: DeclarationReflection): string {
  const file = sources?.[0]?.fileName ?? '';
  const [packages = '', own = '', src = ''] = file.split('/');
  const below = relative(dirname(entry.source), file);
  const path = (below.startsWith('..') ? relative(join(packages, own, src), file) : below).replace(/\.ts$/, '');
  const [folder = ''] = path.split('/');
  return purposes.find(([, paths]) => paths.test(path))?.[0] ?? sentence(path === 'index' ? own : folder);
}

function sentence(name: string): string {
  return name.charAt(0).toUpperCase() + name.slice(1).replaceAll('-', ' ');
}
