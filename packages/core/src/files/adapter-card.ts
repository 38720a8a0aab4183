import { activeRanks, baseParameters, storedParameters } from '../adapter/accounting.js';
import type { Adapter } from '../adapter/peft-model.js';
import { readsImages, type Model, type Task } from '../contracts/model.js';
import { outputsOf, problemTypeOf } from '../head.js';
import { LORA } from './lora-file.js';
import { cardHeader, code, lastPart, pipelineTag, shownName } from './model-card.js';

/** What a model card says of an adapter besides what the model knows. */
export interface CardFacts {
  /** The name of the data that it was trained on. */
  readonly data?: string | undefined;
  /** Facts of the training, in order, e.g. `{ 'training rows': 540, seed: 1 }`. */
  readonly training?: Readonly<Record<string, string | number>> | undefined;
  /** Metrics on held-out rows, by name. */
  readonly metrics?: Readonly<Record<string, number>> | undefined;
  /** The number of these rows. */
  readonly heldOutRows?: number | undefined;
  /** The licence of the adapter by its name on the hub, e.g. `apache-2.0`. */
  readonly license?: string | undefined;
}

/** What a card is about: an adapter, its `peft_type` and its folder. */
interface Saved {
  readonly model: Model;
  readonly adapter: Adapter;
  readonly peftType: string;
  readonly folder: string;
}

/** Returns the README.md of an adapter folder, with front matter for the hub and the mark that `isEdited` reads. */
export function adapterCard(saved: Saved, facts: CardFacts): string {
  const { model, adapter, folder } = saved;
  const { metrics, license, data } = facts;
  const name = lastPart(folder) || 'my-adapter';
  const results = metrics && { name, data: data ?? name, metrics };
  const { isMerged = false, name: base, ...nameless } = model;
  const about = { library: 'peft', tags: [adapter.method.name], license, results } as const;
  const sections = [
    `${cardHeader(isMerged ? nameless : model, about)}# An adapter for ${isMerged ? 'a merged copy of ' : ''}${code(shownName(base))}`,
    purposeOf(saved),
    table([], factsOf(saved, facts)),
    ...scoreSection(facts),
    ...classSection(adapter),
    ...rankSection(adapter),
    ...useSection({ ...saved, folder: name }),
  ];
  return marked(`${sections.join('\n\n')}\n`);
}

/** Adds a comment with a hash of the text. */
function marked(text: string): string {
  let hash = 0x811c9dc5; // FNV-1a
  for (const byte of new TextEncoder().encode(text)) hash = Math.imul(hash ^ byte, 0x01000193);
  return `${text}\n<!-- peftjs ${hash >>> 0}: written again when the adapter is saved again, unless it was edited -->\n`;
}

/** Returns whether a card is not as `adapterCard` wrote it. */
export function isEdited(card: string): boolean {
  return card !== marked(card.replace(/\n<!-- peftjs .* -->\n$/, ''));
}

function purposeOf({ model, adapter: { labels, isChat } }: Saved): string {
  const input = readsImages(model) ? 'an image' : 'a text';
  const answers = { single_label_classification: 'a class', multi_label_classification: 'any number of labels', regression: 'a number' }; // oxfmt-ignore
  return {
    'sequence-classification': `It gives ${input} ${answers[problemTypeOf({ ...model, ...(labels && { labels }) })]}.`,
    'token-classification': 'It tags the words of a text.',
    'causal-lm': isChat ? 'It answers messages: it was trained on conversations.' : 'It continues texts.',
    'feature-extraction': `It turns ${input} into a vector, for search and comparison.`,
  }[model.task ?? 'sequence-classification'];
}

/** Settings that take longer are left to adapter_config.json. */
const LONGEST_SETTING = 60;

function factsOf({ model, adapter, peftType }: Saved, { data, training = {} }: CardFacts): [string, string][] {
  const { method, config, layers, saved, values } = adapter;
  const stored = storedParameters(layers, values);
  const settings = Object.entries(config).map(([option, value]) => `${option}: ${JSON.stringify(value)}`);
  const shown = settings.filter(
    (text) => text.length <= LONGEST_SETTING && !/: (?:null|false|\{\}|undefined)$/.test(text),
  );
  const whole = Object.keys(saved).map(code);
  const modules = Object.keys(layers).length;
  const on = `${modules} ${modules === 1 ? 'module' : 'modules'}`;
  const revision = revisionOf(model);
  return [
    ['base model', `${code(shownName(model.name))}${revision === undefined ? '' : `, revision ${code(revision)}`}`],
    ['method', `${code(method.name)}, saved as ${code(peftType)}`],
    ['settings', shown.map(code).join(', ')],
    ['parameters', `${stored.toLocaleString('en-US')} on ${on}, ${((100 * stored) / baseParameters(model)).toFixed(3)} % of the base`],
    ['trained in full', whole.join(', ')],
    ['data', data === undefined ? '' : code(data)],
    ...Object.entries(training).map(([fact, value]): [string, string] => [fact, String(value)]),
  ].filter(([, value]) => value !== '') as [string, string][]; // oxfmt-ignore
}

/** The revision on the hub. A merged model is on none. */
function revisionOf({ isMerged = false, commit, revision }: Model): string | undefined {
  return isMerged ? undefined : (commit ?? revision);
}

function scoreSection({ metrics, heldOutRows, data }: CardFacts): string[] {
  if (metrics === undefined) return [];
  const of = data === undefined ? '' : ` of ${code(data)}`;
  const cells = Object.entries(metrics).map(([metric, value]) => [code(metric), String(Number(value.toPrecision(4)))]);
  return ['## Results', `On ${heldOutRows ?? 'the'} held-out rows${of}:`, table(['metric', 'value'], cells)];
}

/** Lists the classes. The names may come from an untrusted file: quoting makes each of them one line of code. */
function classSection({ labels }: Adapter): string[] {
  return labels
    ? ['## Classes', labels.map((label, index) => `${index}. ${code(JSON.stringify(label))}`).join('\n')]
    : [];
}

/** Lists the ranks where a method has chosen them. */
function rankSection({ layers, values }: Adapter): string[] {
  const kept = Object.entries(activeRanks(layers, values));
  const isUneven = kept.some(([, rank]) => rank !== kept[0]?.[1]);
  return isUneven
    ? [
        '## Ranks',
        table(
          ['module', 'rank'],
          kept.map(([path, rank]) => [code(path), String(rank)]),
        ),
      ]
    : [];
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const columns = head.length > 0 ? head : ['', ''];
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell) => cell.replaceAll('|', String.raw`\|`)).join(' | ')} |`;
  return [columns, columns.map(() => '---'), ...rows].map(line).join('\n');
}

/** Shows how to use the adapter. Where its base is a folder, the lines name it as one beside them. */
function useSection(saved: Saved): string[] {
  const { model, folder, adapter: { isChat } } = saved; // oxfmt-ignore
  const tag = pipelineTag(model);
  const base = model.isMerged ? `merged-${lastPart(model.name)}` : shownName(model.name);
  const isBeside = base !== model.name;
  const text = JSON.stringify(readsImages(model) ? 'photo.jpg' : 'some text');
  const input = isChat ? `[{ role: "user", content: ${text} }]` : text;
  const python = pythonLines(saved, base);
  const block = (language: string, lines: readonly string[]): string => ['```' + language, ...lines, '```'].join('\n');
  return [
    '## Use',
    `With [peftjs](https://www.npmjs.com/package/peftjs)${isBeside ? `, beside the folder ${code(base)} of the base model` : ''}:`,
    block('js', [
      'import { pipeline } from "peftjs";\n',
      `const adapter = await pipeline("${tag}", ${JSON.stringify(folder)}${isBeside ? `, { model: ${JSON.stringify(base)} }` : ''});`,
      `console.log(JSON.stringify(await adapter(${input})));`,
      'await adapter.dispose();',
    ]),
    'On the command line:',
    block('sh', [
      `npx peftjs predict ${JSON.stringify(folder)}${isBeside ? ` --model ${JSON.stringify(base)}` : ''} ${text}`,
    ]),
    ...(python.length > 0 ? ["In Python, with Hugging Face's PEFT:", block('python', python)] : []),
  ];
}

/** How transformers loads and runs a model of each task. */
const IN_PYTHON: Readonly<Record<Task, readonly [className: string, run: string]>> = {
  'sequence-classification': ['AutoModelForSequenceClassification', 'print(model(**inputs).logits)'],
  'token-classification': ['AutoModelForTokenClassification', 'print(model(**inputs).logits)'],
  'causal-lm': ['AutoModelForCausalLM', 'print(tokenizer.decode(model.generate(**inputs, max_new_tokens=40)[0]))'],
  'feature-extraction': ['AutoModel', 'print(model(**inputs).last_hidden_state)'],
};

/** Lines of Python; none where PEFT does not read the file, or transformers not the base. */
function pythonLines({ model, adapter: { method, isChat }, peftType, folder }: Saved, base: string): string[] {
  const { task = 'sequence-classification', name } = model;
  const isRead = peftType === LORA || method.readByPeft?.includes(peftType);
  if (!isRead || readsImages(model) || /^@|\.(?:onnx|gguf)$/.test(name)) return [];
  const [className, run] = IN_PYTHON[task];
  const revision = revisionOf(model);
  const source = JSON.stringify(base) + (revision === undefined ? '' : `, revision=${JSON.stringify(revision)}`);
  const labels = task.endsWith('classification') ? `, num_labels=${outputsOf(model)}` : '';
  return [
    'from peft import PeftModel',
    `from transformers import ${className}, AutoTokenizer\n`,
    `tokenizer = AutoTokenizer.from_pretrained(${source})`,
    `model = ${className}.from_pretrained(${source}${labels})`,
    `model = PeftModel.from_pretrained(model, ${JSON.stringify(folder)})`,
    isChat
      ? 'inputs = tokenizer.apply_chat_template([{"role": "user", "content": "some text"}], add_generation_prompt=True, return_tensors="pt", return_dict=True)'
      : 'inputs = tokenizer("some text", return_tensors="pt")',
    run,
  ];
}
