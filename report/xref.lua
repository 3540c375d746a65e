-- Cross references for HTML and PDF. Figures, tables and sections are numbered in the order of the text, and an empty
-- link is filled with the name of what it points to: [](#fig:curves) becomes "Figure 3". An unknown label is an error.
-- Typst numbers captions itself, in the same order; in HTML the number is put in front of the caption here.
-- A division of class `callout` becomes a call of the function `callout` of the PDF's template.

local names = { fig = "Figure", tab = "Table", sec = "Section" }
local counts = { fig = 0, tab = 0, sec = 0 }
local labels = {}

local function register(id)
  local kind = id:match("^(%a+):")
  if not names[kind] then return nil end
  if labels[id] then error("xref.lua: the label '" .. id .. "' is used twice") end
  counts[kind] = counts[kind] + 1
  labels[id] = names[kind] .. "\u{a0}" .. counts[kind]
  return labels[id]
end

local function number_caption(element)
  local title = register(element.identifier)
  local first = element.caption.long[1]
  if title and first and FORMAT:match("html") then
    first.content:insert(1, pandoc.Strong(title .. "."))
    first.content:insert(2, pandoc.Space())
  end
  return element
end

-- Widths of the columns of a table that is wider than the page of the PDF, in characters: each has room for its longest
-- word; what is left goes to the columns by the mean length of their texts, so that rows become low.
local LINE = 120

local function share_width(element)
  if FORMAT ~= "typst" then return nil end
  local columns = {}
  for number = 1, #element.colspecs do columns[number] = { word = 0, most = 0, sum = 0, rows = 0 } end
  local function measure(rows)
    for _, row in ipairs(rows) do
      for number, cell in ipairs(row.cells) do
        local text, column = pandoc.utils.stringify(cell.contents), columns[number]
        local length = utf8.len(text) + 2
        column.most, column.sum, column.rows = math.max(column.most, length), column.sum + length, column.rows + 1
        for word in text:gmatch("[^%s/_]+") do column.word = math.max(column.word, utf8.len(word) + 3) end
      end
    end
  end
  measure(element.head.rows)
  for _, body in ipairs(element.bodies) do measure(body.body) end
  local natural, words, wish = 0, 0, 0
  for _, column in ipairs(columns) do
    column.wish = math.max(0, math.min(column.most, 2 * column.sum / column.rows) - column.word)
    natural, words, wish = natural + column.most, words + column.word, wish + column.wish
  end
  if natural <= LINE or wish == 0 then return nil end
  local left = math.max(0, math.min(LINE - words, wish))
  local all = math.max(LINE, words)
  for number, column in ipairs(columns) do
    element.colspecs[number][2] = (column.word + left * column.wish / wish) / all
  end
  return element
end

local function number_section(header)
  if header.level == 1 and not header.classes:includes("unnumbered") then
    counts.sec = counts.sec + 1
    labels[header.identifier] = names.sec .. "\u{a0}" .. counts.sec
  end
end

local function fill_link(link)
  if #link.content > 0 or link.target:sub(1, 1) ~= "#" then return nil end
  local label = labels[link.target:sub(2)]
  if not label then error("xref.lua: nothing has the label '" .. link.target .. "'") end
  link.content = { pandoc.Str(label) }
  return link
end

local function callout(div)
  if div.classes:includes("callout") and FORMAT == "typst" then
    return { pandoc.RawBlock("typst", "#callout["), div, pandoc.RawBlock("typst", "]") }
  end
end

return {
  { Figure = number_caption, Table = number_caption, Header = number_section },
  { Link = fill_link, Div = callout, Table = share_width },
}
