import type { Adapter } from '../adapter/peft-model.js';
import { baseParameters, storedParameters } from '../adapter/accounting.js';
import type { Model, Task } from '../contracts/model.js';

/** The front matter of a model card, for the hub. */
interface CardFields {
  /** The base model's name. Left out of the card unless it is a hub id, because the hub rejects other names. */
  readonly baseModel: string;
  /** The library that opens the folder. */
  readonly library: 'peft' | 'transformers' | 'transformers.js';
  /** The task. Default 'sequence-classification'. */
  readonly task?: Task | undefined;
  /** Tags besides 'peftjs'. Default: none. */
  readonly tags?: readonly string[];
}

const HUB_ID = /^(?!.*(?:--|\.\.))\w[\w.-]*\/\w[\w.-]*$/;

/** The hub's names of the tasks. */
const PIPELINE_TAGS: Readonly<Record<Task, string>> = {
  'sequence-classification': 'text-classification',
  'token-classification': 'token-classification',
  'causal-lm': 'text-generation',
  'feature-extraction': 'feature-extraction',
};

/** Returns the front matter of a model card and the empty line after it. */
export function cardHeader({ baseModel, library, task = 'sequence-classification', tags = [] }: CardFields): string {
  return [
    '---',
    ...(HUB_ID.test(baseModel) ? [`base_model: ${JSON.stringify(baseModel)}`] : []),
    `library_name: ${library}`,
    `pipeline_tag: ${PIPELINE_TAGS[task]}`,
    'tags:',
    ...['peftjs', ...tags].map((tag) => `- ${JSON.stringify(tag)}`),
    '---',
    '',
    '',
  ].join('\n');
}

/** Returns the README.md of an adapter folder, with front matter for the hub. */
export function adapterCard(model: Model, adapter: Adapter, peftType: string): string {
  const { method, layers, saved, values, labels } = adapter;
  const stored = storedParameters(layers, values);
  const whole = Object.keys(saved).map((path) => `\`${path}\``);
  const header = cardHeader({ baseModel: model.name, library: 'peft', task: model.task, tags: [method.name] });
  return `${header}# An adapter for ${model.name}

Made with peftjs by the method \`${method.name}\`, saved as \`${peftType}\`: ${stored.toLocaleString('en-US')} parameters
on ${Object.keys(layers).length} modules (${((100 * stored) / baseParameters(model)).toFixed(3)} % of the base), and the modules ${whole.join(', ') || 'none'} trained in full.
${labels ? classList(labels) : ''}`;
}

/** Lists the classes. The names may come from an untrusted file: quoting makes each of them one line of code. */
function classList(labels: readonly string[]): string {
  const items = labels.map((label, index) => `${index}. \`${JSON.stringify(label).replaceAll('`', "'")}\``);
  return `\n## Classes\n\n${items.join('\n')}\n`;
}
