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

-- A table of the PDF. Widths are in em of its face; `LINE` is the width of the text, and `INSET` what a cell adds.
-- A table that is too wide gets a smaller face, down to `SMALLEST`; then columns are narrowed, first those of long texts:
-- a column keeps the room of its longest word, and numbers with their intervals stay on one line if they can.
local LINE, INSET, SMALLEST = 53, 1.2, 0.82

local function width(text)
  local sum = 0
  for _, code in utf8.codes(text) do
    local char = utf8.char(code)
    if char:match("[%[%]%(%),.;:'|!iIjlt ]") or code == 0xa0 then sum = sum + 0.3
    elseif char:match("[mwMW%%@]") then sum = sum + 0.83
    elseif char:match("%u") then sum = sum + 0.66
    else sum = sum + 0.5 end
  end
  return sum
end

local function longest(text, pattern)
  local most = 0
  for word in text:gmatch(pattern) do most = math.max(most, width(word)) end
  return most + INSET
end

local function measure(element)
  local columns = {}
  for number, spec in ipairs(element.colspecs) do
    columns[number] = { hard = 0, soft = 0, full = 0, number = spec[1] == "AlignRight" }
  end
  local function add(rows, bold)
    for _, row in ipairs(rows) do
      for number, cell in ipairs(row.cells) do
        local text, column = pandoc.utils.stringify(cell.contents), columns[number]
        column.full = math.max(column.full, width(text) * (bold or 1) + INSET)
        column.soft = math.max(column.soft, longest(text, "[^ ]+") * (bold or 1))
        column.hard = math.max(column.hard, longest(text, "[^ /_]+[/_]?") * (bold or 1))
      end
    end
  end
  add(element.head.rows, 1.06)
  for _, body in ipairs(element.bodies) do add(body.body) end
  return columns
end

local function total(columns, key)
  local sum = 0
  for _, column in ipairs(columns) do sum = sum + column[key] end
  return sum
end

-- Room for each column: its least, numbers in full where `whole`; what is left makes the highest texts lower. Returns
-- how many lines the highest has.
local function share(columns, least, line, whole)
  local left, sorted = line - total(columns, least), { table.unpack(columns) }
  table.sort(sorted, function(one, other) return one.full - one[least] < other.full - other[least] end)
  for _, column in ipairs(sorted) do
    local want = column.full - column[least]
    column.room = column[least]
    if whole and column.number and want <= left then column.room, left = column.full, left - want end
  end
  local function highest()
    local lines, found = 1, nil
    for _, column in ipairs(columns) do
      if not column.number and column.full / column.room > lines then lines, found = column.full / column.room, column end
    end
    return lines, found
  end
  local lines, column = highest()
  while column and left > 0.5 do
    column.room, left = column.room + 0.5, left - 0.5
    lines, column = highest()
  end
  return lines
end

local function set_table(element)
  if FORMAT ~= "typst" then return nil end
  local columns, size = measure(element), 1
  local natural = total(columns, "full")
  if natural > LINE then
    size = math.max(SMALLEST, LINE / natural)
    local line = LINE / size
    local least = total(columns, "soft") <= line and "soft" or "hard"
    local lines = share(columns, least, line, false)
    if share(columns, least, line, true) > math.max(2, lines + 0.5) then share(columns, least, line, false) end
    local all = math.max(line, total(columns, "room"))
    for number, column in ipairs(columns) do element.colspecs[number][2] = column.room / all end
  end
  local continued = pandoc.Cell({ pandoc.Plain({ pandoc.RawInline("typst", "#continued") }) })
  continued.col_span, continued.attributes["typst:inset"] = #columns, "0pt"
  element.head.rows:insert(1, pandoc.Row({ continued }))
  return {
    pandoc.RawBlock("typst", string.format("#[#show table: set text(size: %.2fpt)", 8.8 * size)),
    element,
    pandoc.RawBlock("typst", "]"),
  }
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

-- The PDF names the file of a table or figure below its caption, where HTML has links.
local function source(span)
  if FORMAT ~= "typst" then return nil end
  if span.classes:includes("source") then
    return { pandoc.RawInline("typst", "#source["), pandoc.Code(span.attributes.file), pandoc.RawInline("typst", "]") }
  end
  return span.content
end

-- No line breaks inside the brackets of an interval.
local function keep_intervals(inlines)
  if FORMAT ~= "typst" then return nil end
  local word = ""
  for place, inline in ipairs(inlines) do
    if inline.t == "Space" or inline.t == "SoftBreak" then
      if word:match("^%(?%[[^%a%s]*%d,$") then inlines[place] = pandoc.Str("\u{a0}") end
      word = ""
    else
      word = word .. pandoc.utils.stringify(inline)
    end
  end
  return inlines
end

local begun = false
local function put_contents(header)
  if FORMAT ~= "typst" or begun or header.level > 1 or header.classes:includes("unnumbered") then return nil end
  begun = true
  return { pandoc.RawBlock("typst", "#contents"), header }
end

return {
  { Figure = number_caption, Table = number_caption, Header = number_section },
  { Link = fill_link, Div = callout, Span = source, Header = put_contents },
  { Inlines = keep_intervals },
  { Table = set_table },
}
