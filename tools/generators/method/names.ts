import { names, readJson, type Tree } from '@nx/devkit';
import ts from 'typescript';

/** A method cannot be called so; nx prints the message. */
class NameError extends Error {
  override readonly name = 'NameError';
}

/** What a new method is called, where it is named. */
export interface MethodNames {
  /** On the command line and in packages/: `my-method`. */
  readonly name: string;
  /** The export: `myMethod`. */
  readonly exportName: string;
  /** Of its types: `MyMethod`. */
  readonly typeName: string;
}

/** Words that TypeScript reads as names, but that no module may bind. */
const UNBINDABLE: readonly string[] = ['arguments', 'await', 'eval'];

/**
 * The names of a new method.
 * @throws NameError when the name is not one, is a word of JavaScript, or is taken by a package, a method or a page.
 */
export function methodNames(tree: Tree, name: string): MethodNames {
  if (!/^[a-z][a-z0-9]*(-[a-z0-9]+)*$/.test(name)) {
    throw new NameError(
      `'${name}' is no name for a method; use lower-case letters, digits and single hyphens, e.g. 'my-method'`,
    );
  }
  const { propertyName, className } = names(name);
  if (isReserved(propertyName)) {
    throw new NameError(`'${name}' is a word of JavaScript and cannot be exported; choose another name`);
  }
  const owner = ownerOf(tree, name);
  if (owner !== undefined) throw new NameError(`'${name}' is taken by ${owner}; choose another name`);
  return { name, exportName: propertyName, typeName: className };
}

function isReserved(word: string): boolean {
  const scanner = ts.createScanner(ts.ScriptTarget.Latest, true, ts.LanguageVariant.Standard, word);
  const kind = scanner.scan();
  const isKeyword = kind >= ts.SyntaxKind.FirstReservedWord && kind <= ts.SyntaxKind.LastFutureReservedWord;
  return isKeyword || UNBINDABLE.includes(word);
}

/** What has the name already. */
function ownerOf(tree: Tree, name: string): string | undefined {
  const workspaces = ['docs', 'examples', 'tests', 'tools'];
  const folders = [...tree.children('packages').map((folder) => `packages/${folder}`), ...workspaces];
  for (const folder of folders) {
    const manifest = `${folder}/package.json`;
    if (!tree.exists(manifest)) continue;
    const read = readJson<{ name: string; peft?: { methods: Record<string, string> } }>(tree, manifest);
    if (read.name === `@peftjs/${name}` || folder === `packages/${name}`) return folder;
    if (name in (read.peft?.methods ?? {})) return `a method of ${folder}`;
  }
  const page = `docs/methods/${name}.md`;
  return tree.exists(page) ? page : undefined;
}
