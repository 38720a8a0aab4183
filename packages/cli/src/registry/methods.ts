import { pathToFileURL } from 'node:url';
import { ConfigError, warnOnce, type PeftMethod } from '@peftjs/core/method';
import { didYouMean } from '@peftjs/core/model';
import { oneLine } from '../format.js';
import { dependencies, findPackage, packageEntry, readManifest } from './packages.js';

/** A method that an installed package offers under a command-line name. */
export interface AvailableMethod {
  /** The command-line name. */
  readonly name: string;
  /** The name of the package. */
  readonly packageName: string;
  /** The version of the package. */
  readonly version: string;
  /** The name of the package's export. */
  readonly exportName: string;
  /** The package's folder. */
  readonly folder: string;
  /** Options of a small adapter that engines are checked with; undefined if they are not checked with this method. */
  readonly check?: Readonly<Record<string, unknown>> | undefined;
}

/** A method with its origin. */
export interface ResolvedMethod {
  /** The method. */
  readonly method: PeftMethod;
  /** The package that offers it. */
  readonly offer: AvailableMethod;
}

/** What every method has, and what opening any adapter reads of each of them. */
const MEMBERS = {
  name: (value: unknown) => typeof value === 'string',
  parseConfig: isFunction,
  adapt: isFunction,
  toFile: isFunction,
  fromFile: isFunction,
  capabilities: (value: unknown) => typeof value === 'object' && value !== null,
  peftTypes: Array.isArray,
} as const satisfies Partial<Record<keyof PeftMethod, (value: unknown) => boolean>>;

function isFunction(value: unknown): boolean {
  return typeof value === 'function';
}

/** Lists the methods of this package's dependencies, then those of the project in the working directory. */
export async function availableMethods(): Promise<AvailableMethod[]> {
  const offers = await Promise.all((await dependencies()).map(methodsOf));
  return offers.flat();
}

/**
 * Finds a method by its command-line name, or a package's only method by the package's name.
 * @throws ConfigError if there is none, or if two packages claim the name.
 */
export async function resolveMethod(name: string): Promise<ResolvedMethod> {
  const offer = await offerOf(await availableMethods(), name);
  return { method: await loaded(offer), offer };
}

/**
 * Loads every available method, for opening adapters of any of them. This package's own come first, so that they read
 * what others claim, too. One that does not load is left out with a warning: most adapters are not its own.
 */
export async function everyMethod(): Promise<PeftMethod[]> {
  const offers = await availableMethods();
  const methods = offers.map((offer) =>
    loaded(offer).catch((error: unknown) => {
      const line = oneLine(error instanceof Error ? error.message : String(error));
      warnOnce(`the method '${offer.name}' of ${offer.packageName} does not load and is left out: ${line}`);
      return [];
    }),
  );
  return (await Promise.all(methods)).flat();
}

/** Imports a method. @throws ConfigError if the export is not one, or what the package's code throws. */
async function loaded(offer: AvailableMethod): Promise<PeftMethod> {
  const { packageName, folder } = offer;
  const entry = packageEntry(packageName, folder); // in the folder whose manifest made the offer, not in another copy
  if (entry === undefined) throw new ConfigError(`the package '${packageName}' has no entry point to import`, 'method');
  const module = (await import(pathToFileURL(entry).href)) as Record<string, unknown>;
  const method = module[offer.exportName] as PeftMethod | undefined;
  const missing = Object.entries(MEMBERS).filter(([member, isOne]) => !isOne(method?.[member as keyof PeftMethod]));
  if (method && missing.length === 0) return method;
  throw new ConfigError(
    `${packageName} declares the method '${offer.name}' as its export '${offer.exportName}', which is not a method: ` +
      `expected the result of defineMethod, got an object without ${missing.map(([member]) => member).join(', ')}`,
    'method',
  );
}

/** Whether a method adapts no module, so that only the head is trained. */
export function isHeadOnly({ capabilities }: PeftMethod): boolean {
  return capabilities.kinds.length === 0;
}

async function offerOf(offers: readonly AvailableMethod[], name: string): Promise<AvailableMethod> {
  const claims = offers.filter((offer) => offer.name === name);
  const [claim] = claims.length > 0 ? claims : await methodsOf(name);
  if (claims.length > 1) {
    const packages = claims.map(({ packageName }) => packageName).join(' and ');
    throw new ConfigError(`--method '${name}' is claimed by ${packages}; name the package instead`, 'method');
  }
  if (claim) return claim;
  const known = offers.map((offer) => offer.name);
  throw new ConfigError(
    `--method '${name}' is unknown${didYouMean(name, known)}; known are ${known.join(', ')}, and any installed package with a "peft" field`,
    'method',
  );
}

async function methodsOf(packageName: string): Promise<AvailableMethod[]> {
  const folder = findPackage(packageName);
  const manifest = folder === undefined ? undefined : await readManifest(folder);
  if (folder === undefined || manifest === undefined) return [];
  return Object.entries(manifest.peft?.methods ?? {}).map(([name, exportName]) => ({
    name,
    exportName,
    packageName,
    version: manifest.version,
    folder,
    check: manifest.peft?.checks?.[name],
  }));
}
