import type { DeclarationReflection } from 'typedoc';
import type { MarkdownThemeContext } from 'typedoc-plugin-markdown';
import { firstSentence } from '../.vitepress/sentence.js';
import type { Entry } from './entries.js';
import type { Group } from './groups.js';
import type { Defaults } from './parameters.js';

/** The contents of the reference. */
export function entriesTable(entries: readonly Entry[]): string {
  return table(
    ['Import', 'What it holds'],
    entries.map(({ specifier, name, description }) => [`[${specifier}](${name}/index.md)`, description]),
  );
}

/** The contents of an entry. */
export function indexOf(context: MarkdownThemeContext, groups: readonly Group[]): string {
  const rows = (members: readonly DeclarationReflection[]) =>
    members.map((member) => [`[${member.name}](${context.urlTo(member)})`, firstSentence(summaryOf(context, member))]);
  const parts = groups.flatMap(({ title: sort, purposes }) => [
    `## ${sort}`,
    ...purposes.flatMap(({ title, members }) => [
      ...(title === '' ? [] : [`### ${title}`]),
      table(['Name', 'What it is'], rows(members)),
    ]),
  ]);
  return parts.join('\n\n');
}

/** The first paragraph of what the source says of a declaration. */
export function summaryOf({ helpers }: MarkdownThemeContext, member: DeclarationReflection): string {
  const comment = member.comment ?? member.signatures?.[0]?.comment;
  return comment ? (helpers.getCommentParts(comment.summary).split('\n\n', 1)[0] ?? '') : '';
}

/** Properties or options; with their defaults where the source or the comment gives any. */
export function fieldsTable(
  { partials, router }: MarkdownThemeContext,
  fields: readonly DeclarationReflection[],
  { defaults, anchors = false }: { defaults?: Defaults | undefined; anchors?: boolean } = {},
): string {
  const rows = fields.map((field) => {
    const comment = field.comment ?? field.signatures?.[0]?.comment;
    const said = comment ? partials.comment(comment, { isTableColumn: true }) : '';
    const value = defaults?.get(field.name) ?? defaultIn(said);
    const type = field.type ? partials.someType(field.type) : partials.functionType(field.signatures ?? []);
    const anchor = anchors && router.hasUrl(field) ? `<a id="${router.getAnchor(field) ?? ''}"></a> ` : '';
    return {
      name: `${anchor}\`${field.name}${field.flags.isOptional ? '?' : ''}\``,
      type: type.replace(/^\s*\\\| /, ''),
      value: value === undefined ? '' : `\`${value}\``,
      // A sentence that says nothing but the default is said by the column.
      description: value === undefined ? said : said.replace(/\bDefault \S+\.$/, ''),
    };
  });
  const withDefaults = rows.some(({ value }) => value !== '');
  return table(
    ['Name', 'Type', ...(withDefaults ? ['Default'] : []), 'Description'],
    rows.map(({ name, type, value, description }) => [name, type, ...(withDefaults ? [value] : []), description]),
  );
}

/** A default that a comment names: in a code span, or a literal. */
const NAMED_DEFAULT = /\bDefault:? (?:`([^`]+)`|('[^']+'|\[\]|\{\}|null|true|false|-?\d[\w.+-]*?))(?=[,;:]|\.(?:\s|$))/;

function defaultIn(comment: string): string | undefined {
  const [, code, literal] = NAMED_DEFAULT.exec(comment.replace(/\\(?=[{}[\]])/g, '')) ?? [];
  return code ?? literal;
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const cell = (text: string) =>
    text
      .replace(/(?<!\\)\|/g, '\\|')
      .replace(/\s+/g, ' ')
      .trim();
  const line = (cells: readonly string[]) => `| ${cells.map(cell).join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
}
